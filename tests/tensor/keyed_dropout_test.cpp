#include "qlora/tensor/keyed_dropout.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

namespace qlora::tensor {
namespace {

constexpr kernels::DropoutKey kKey{.seed = 5, .module = 77};

DropoutTokens tokens(std::int64_t first_sample, std::int64_t samples, std::int64_t length) {
  const at::Tensor sample =
      at::arange(first_sample, first_sample + samples).repeat_interleave(length);
  return {.samples = sample, .positions = at::arange(length).repeat(samples)};
}

TEST(KeyedDropout, DoesNotDependOnTheBatchSplit) {
  const at::Tensor x = at::randn({4, 6, 32});
  const at::Tensor whole = keyed_dropout(x, tokens(0, 4, 6), kKey, 0.3f);
  for (std::int64_t row = 0; row < 4; ++row) {
    const at::Tensor alone = keyed_dropout(x.slice(0, row, row + 1), tokens(row, 1, 6), kKey, 0.3f);
    EXPECT_TRUE(at::equal(alone, whole.slice(0, row, row + 1)));
  }
}

TEST(KeyedDropout, DropsTheAskedShareAndScalesTheRest) {
  const at::Tensor x = at::ones({64, 512});
  const at::Tensor y = keyed_dropout(x, tokens(0, 8, 8), kKey, 0.25f);
  const at::Tensor kept = y != 0;
  // 32,768 draws: three standard deviations are 0.007.
  EXPECT_NEAR(kept.to(at::kFloat).mean().item<double>(), 0.75, 0.007);
  EXPECT_TRUE(at::equal(y.masked_select(kept), at::full_like(y.masked_select(kept), 1 / 0.75f)));
}

TEST(KeyedDropout, EpochAndModuleChangeTheMask) {
  const at::Tensor x = at::ones({8, 64});
  const at::Tensor y = keyed_dropout(x, tokens(0, 1, 8), kKey, 0.5f);
  const DropoutTokens next_epoch = tokens(kernels::sample_name(0, 1), 1, 8);
  EXPECT_FALSE(at::equal(y, keyed_dropout(x, next_epoch, kKey, 0.5f)));
  kernels::DropoutKey other = kKey;
  other.module = 78;
  EXPECT_FALSE(at::equal(y, keyed_dropout(x, tokens(0, 1, 8), other, 0.5f)));
}

TEST(KeyedDropout, GradientTakesTheSameMask) {
  const at::Tensor x = at::randn({6, 16}).requires_grad_(true);
  const at::Tensor weights = at::randn({6, 16});
  const at::Tensor y = keyed_dropout(x, tokens(3, 2, 3), kKey, 0.4f);
  torch::autograd::backward({(y * weights).sum()});
  const at::Tensor mask = keyed_dropout(at::ones({6, 16}), tokens(3, 2, 3), kKey, 0.4f);
  EXPECT_TRUE(at::equal(x.grad(), weights * mask));
}

// In float32, as there is no float64 kernel; the function is linear, so the step may be large.
TEST(KeyedDropout, NumericGradient) {
  const at::Tensor x = at::randn({2, 8}).requires_grad_(true);
  const at::Tensor weights = at::randn({2, 8});
  const auto objective = [&](const at::Tensor& input) {
    return (keyed_dropout(input, tokens(0, 1, 2), kKey, 0.4f) * weights).sum();
  };
  torch::autograd::backward({objective(x)});
  const at::NoGradGuard no_grad;
  for (std::int64_t i = 0; i < x.numel(); ++i) {
    at::Tensor step = at::zeros({2, 8});
    step.view(-1)[i] = 1;
    const double numeric = (objective(x + step) - objective(x - step)).item<double>() / 2;
    EXPECT_NEAR(x.grad().view(-1)[i].item<double>(), numeric, 1e-5) << i;
  }
}

}  // namespace
}  // namespace qlora::tensor
