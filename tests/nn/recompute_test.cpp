#include "qlora/nn/recompute.h"

#include "support/gradcheck.h"

namespace qlora::nn {
namespace {

TEST(Recompute, NumericGradientOfInputAndParameter) {
  const at::Tensor w = test::random_leaf({4, 4}, 2);
  test::expect_gradients(
      [&](const auto& in) {
        return recompute([&](const at::Tensor& x) { return x.matmul(in[1]).tanh(); }, in[0]);
      },
      {test::random_leaf({3, 4}, 1), w});
}

// The field's old trap: a frozen embedding below the first block, whose output needs no gradient.
TEST(Recompute, TrainsParametersUnderAnInputWithoutGradient) {
  const at::Tensor w = test::random_leaf({4, 4}, 2);
  const at::Tensor x = test::random_leaf({3, 4}, 1, /*requires_grad=*/false);
  torch::autograd::backward(
      {recompute([&](const at::Tensor& in) { return in.matmul(w); }, x).sum()});
  ASSERT_TRUE(w.grad().defined());
  EXPECT_TRUE(at::allclose(w.grad(), x.sum(0).unsqueeze(1).expand({4, 4})));
}

TEST(Recompute, RunsTheBodyAgainInsteadOfKeepingItsValues) {
  int runs = 0;
  const at::Tensor x = test::random_leaf({2, 2}, 1);
  const at::Tensor y = recompute(
      [&](const at::Tensor& in) {
        ++runs;
        return in.square();
      },
      x);
  EXPECT_EQ(runs, 1);
  torch::autograd::backward({y.sum()});
  EXPECT_EQ(runs, 2);
  EXPECT_TRUE(at::allclose(x.grad(), 2 * x));
}

}  // namespace
}  // namespace qlora::nn
