#include "qlora/nn/lora.h"

#include "qlora/nn/linear.h"
#include "support/gradcheck.h"

namespace qlora::nn {
namespace {

LoraOptions options(at::ScalarType dtype) {
  return {.rank = 3, .scaling = 0.75, .dropout = 0.5, .init = LoraInit::Random, .dtype = dtype};
}

TEST(Lora, NumericGradientOfInputAAndB) {
  LoraAdapter adapter(7, 5, options(at::kDouble), "m", 1, c10::kCPU);
  const at::Tensor base = test::random_leaf({2, 5}, 3, false);
  test::expect_gradients([&](const auto& in) { return adapter.add_to(base, in[0], {}); },
                         {test::random_leaf({2, 7}, 2), adapter.a, adapter.b});
}

TEST(Lora, DeltaIsWhatForwardAdds) {
  const LoraAdapter adapter(7, 5, options(at::kDouble), "m", 1, c10::kCPU);
  const at::Tensor x = test::random_leaf({4, 7}, 2, false);
  const at::Tensor added = adapter.add_to(at::zeros({4, 5}, at::kDouble), x, {});
  EXPECT_TRUE(at::allclose(added, x.matmul(adapter.delta().t()), 1e-12, 1e-12));
}

TEST(Lora, DropsInTrainingOnlyAndByName) {
  const LoraAdapter adapter(64, 8, options(at::kFloat), "m", 1, c10::kCPU);
  const LoraAdapter other(64, 8, options(at::kFloat), "n", 1, c10::kCPU);
  const at::Tensor x = at::ones({1, 2, 64});
  const at::Tensor base = at::zeros({1, 2, 8});
  ForwardContext training{
      .training = true,
      .tokens = {.samples = at::zeros({2}, at::kLong), .positions = at::arange(2, at::kLong)},
      .seed = 9};
  const at::Tensor dropped = adapter.add_to(base, x, training);
  EXPECT_FALSE(at::allclose(dropped, adapter.add_to(base, x, {})));
  EXPECT_TRUE(at::equal(dropped, adapter.add_to(base, x, training)));
  training.tokens.samples = at::full({2}, kernels::sample_name(0, 1), at::kLong);
  EXPECT_FALSE(at::allclose(dropped, adapter.add_to(base, x, training)));
}

TEST(Linear, AdapterOnQuantizedWeight) {
  const at::Tensor weight = at::randn({16, 64});
  const auto quantized = tensor::quantize(weight, kernels::QuantType::NF4, 64, true);
  const at::Tensor bias = at::randn({16});
  Linear linear(quantized, bias, at::kFloat);
  linear.adapter().emplace(64, 16, options(at::kFloat), "m", 1, c10::kCPU);
  const at::Tensor x = at::randn({3, 64});
  const at::Tensor merged = linear.dense_weight(at::kFloat) + linear.adapter()->delta();
  EXPECT_TRUE(at::allclose(linear.forward(x, {}), at::linear(x, merged, bias), 1e-5, 1e-5));
}

TEST(Linear, ComputesInTheQuantizedLayersOwnType) {
  const auto quantized = tensor::quantize(at::randn({16, 64}), kernels::QuantType::NF4, 64, false);
  const at::Tensor x = at::randn({3, 64}).to(at::kHalf);
  const Linear linear(quantized, {}, at::kBFloat16);
  const at::Tensor expected =
      at::linear(x.to(at::kBFloat16), quantized->dequantize(at::kBFloat16)).to(at::kHalf);
  EXPECT_TRUE(at::equal(linear.forward(x, {}), expected));
}

}  // namespace
}  // namespace qlora::nn
