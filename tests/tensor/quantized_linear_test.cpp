#include "qlora/tensor/quantized_linear.h"

#include "support/gradcheck.h"

namespace qlora::tensor {
namespace {

QuantizedWeightPtr random_weight(std::int64_t out, std::int64_t in, bool nested) {
  at::manual_seed(3);
  return quantize(at::randn({out, in}), kernels::QuantType::NF4, 64, nested);
}

TEST(QuantizedLinear, EqualsDenseProduct) {
  for (const bool nested : {false, true}) {
    const auto weight = random_weight(24, 40, nested);
    const at::Tensor x = at::randn({2, 3, 40});
    const at::Tensor expected = at::linear(x, weight->dequantize(at::kFloat));
    EXPECT_TRUE(at::equal(quantized_linear(x, weight, at::kFloat), expected));
  }
}

TEST(QuantizedLinear, NumericGradient) {
  const auto weight = random_weight(6, 10, true);
  test::expect_gradients(
      [&](const auto& in) { return quantized_linear(in[0], weight, at::kDouble); },
      {test::random_leaf({2, 3, 10}, 1)});
}

TEST(QuantizedLinear, CastsToComputeTypeAndBack) {
  const auto weight = random_weight(8, 64, false);
  const at::Tensor x = at::randn({5, 64}).to(at::kHalf).requires_grad_(true);
  const at::Tensor y = quantized_linear(x, weight, at::kBFloat16);
  EXPECT_EQ(y.scalar_type(), at::kHalf);
  const at::Tensor expected =
      at::linear(x.to(at::kBFloat16), weight->dequantize(at::kBFloat16)).to(at::kHalf);
  EXPECT_TRUE(at::equal(y, expected));
  torch::autograd::backward({y.sum()});
  EXPECT_EQ(x.grad().scalar_type(), at::kHalf);
}

// What autograd keeps between forward and backward is the packed weight's handle, nothing dense:
// swapping the bytes behind it must change the gradient.
TEST(QuantizedLinear, BackwardDequantizesAgain) {
  const auto weight = random_weight(8, 64, false);
  const at::Tensor x = at::randn({1, 64}).requires_grad_(true);
  const at::Tensor y = quantized_linear(x, weight, at::kFloat);
  weight->packed.fill_(0x77);  // every code 7, which stands for zero
  torch::autograd::backward({y.sum()});
  EXPECT_EQ(x.grad().abs().max().item<float>(), 0.0f);
}

}  // namespace
}  // namespace qlora::tensor
