#include "qlora/tensor/linear_cross_entropy.h"

#include "support/gradcheck.h"
#include "support/tensor_golden.h"

namespace qlora::tensor {
namespace {

at::Tensor reference(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& labels) {
  return at::cross_entropy_loss(at::linear(hidden, weight), labels, {}, at::Reduction::Sum);
}

TEST(LinearCrossEntropy, EqualsTheTwoStepsAcrossChunks) {
  const at::Tensor hidden = test::random_leaf({600, 12}, 1);  // three chunks, the last one partial
  const at::Tensor weight = test::random_leaf({31, 12}, 2);
  const at::Tensor labels = at::randint(31, {600}, at::kLong);
  const at::Tensor loss = linear_cross_entropy(hidden, weight, labels);
  const at::Tensor expected = reference(hidden, weight, labels);
  // Both run in float64. Each of the 600 terms, around 8, errs by a few roundings of numbers up to
  // 20 (1e-15 of itself), and so does each element of the gradients by those of its largest term.
  EXPECT_NEAR(loss.item<double>() / expected.item<double>(), 1.0, 1e-14);
  torch::autograd::backward({loss});
  const at::Tensor d_hidden = hidden.grad().clone();
  const at::Tensor d_weight = weight.grad().clone();
  hidden.mutable_grad().reset();
  weight.mutable_grad().reset();
  torch::autograd::backward({expected});
  EXPECT_LT(test::scaled_error(d_hidden, hidden.grad()), 1e-14);
  EXPECT_LT(test::scaled_error(d_weight, weight.grad()), 1e-14);
}

TEST(LinearCrossEntropy, WeighsEachRow) {
  const at::Tensor hidden = test::random_leaf({300, 6}, 1);  // two chunks
  const at::Tensor weight = test::random_leaf({9, 6}, 2);
  const at::Tensor labels = at::randint(9, {300}, at::kLong);
  const at::Tensor factors = at::rand({300}, at::kDouble) + 0.5;
  const at::Tensor loss = linear_cross_entropy(hidden, weight, labels, factors);
  const at::Tensor each =
      at::cross_entropy_loss(at::linear(hidden, weight), labels, {}, at::Reduction::None);
  EXPECT_NEAR(loss.item<double>() / (each * factors).sum().item<double>(), 1.0, 1e-14);
  const at::Tensor few = factors.slice(0, 0, 3), targets = at::tensor({0, 4, 2}, at::kLong);
  test::expect_gradients(
      [&](const auto& in) { return linear_cross_entropy(in[0], in[1], targets, few); },
      {test::random_leaf({3, 4}, 1), test::random_leaf({5, 4}, 2)});
}

TEST(LinearCrossEntropy, NumericGradient) {
  const at::Tensor labels = at::tensor({0, 4, 2}, at::kLong);
  test::expect_gradients([&](const auto& in) { return linear_cross_entropy(in[0], in[1], labels); },
                         {test::random_leaf({3, 4}, 1), test::random_leaf({5, 4}, 2)});
}

TEST(LinearCrossEntropy, KeepsSmallFloat16GradientsUnderALossScale) {
  const at::Tensor hidden = at::randn({4, 8}).to(at::kHalf).requires_grad_(true);
  const at::Tensor weight = (at::randn({16, 8}) * 1e-3).to(at::kHalf);
  const at::Tensor labels = at::tensor({1, 2, 3, 4}, at::kLong);
  // 2^17 is beyond float16; the scaled gradient is not.
  torch::autograd::backward({linear_cross_entropy(hidden, weight, labels) * 131072.0});
  EXPECT_TRUE(at::isfinite(hidden.grad()).all().item<bool>());
  EXPECT_GT(hidden.grad().abs().min().item<double>(), 0.0);
}

}  // namespace
}  // namespace qlora::tensor
