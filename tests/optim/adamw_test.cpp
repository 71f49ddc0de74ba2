#include "qlora/optim/adamw.h"

#include "qlora/base/error.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <limits>

namespace qlora::optim {
namespace {

tensor::Parameter parameter(const std::string& name, std::int64_t size, std::uint64_t seed,
                            bool decay = true) {
  at::manual_seed(seed);
  return {name, at::randn({size}).requires_grad_(true), decay};
}

void set_gradient(const tensor::Parameter& p, std::uint64_t seed) {
  at::manual_seed(seed);
  p.value.mutable_grad() = at::randn_like(p.value);
}

TEST(AdamW, ThirtyTwoBitFollowsTheFormula) {
  const auto p = parameter("p", 1000, 1);
  at::Tensor expected = p.value.detach().to(at::kDouble);
  at::Tensor m = at::zeros_like(expected);
  at::Tensor v = at::zeros_like(expected);
  AdamW optimizer({p}, {.eight_bit = false, .weight_decay = 0.1});
  for (int step = 1; step <= 10; ++step) {
    set_gradient(p, static_cast<std::uint64_t>(step));
    const at::Tensor g = 0.5 * p.value.grad().to(at::kDouble);
    m = 0.9 * m + 0.1 * g;
    v = 0.999 * v + 0.001 * g * g;
    const double c1 = 1 - std::pow(0.9, step);
    const double c2 = 1 - std::pow(0.999, step);
    expected = expected * (1 - 1e-2 * 0.1) - 1e-2 * (m / c1) / ((v / c2).sqrt() + 1e-8);
    optimizer.step(1e-2, {.gradient_scale = 0.5});
  }
  // Ten float32 updates of values around 1.
  EXPECT_LT((p.value.detach() - expected).abs().max().item<double>(), 2e-6);
}

TEST(AdamW, SmallTensorsKeepWideState) {
  AdamW optimizer({parameter("small", 4095, 1), parameter("large", 4096, 2)}, {});
  const auto state = optimizer.state();
  ASSERT_EQ(state.size(), 2u + 4u);
  EXPECT_EQ(state[0].value.scalar_type(), at::kFloat);
  EXPECT_EQ(state[2].name, "large.m");
  EXPECT_EQ(state[2].value.scalar_type(), at::kByte);
  EXPECT_EQ(optimizer.state_bytes(), 2 * 4095 * 4 + 2 * 4096 + 2 * 16 * 4);
}

TEST(AdamW, DecaysOnlyWhatItShould) {
  const auto decayed = parameter("w", 64, 1, true);
  const auto kept = parameter("norm", 64, 2, false);
  const at::Tensor before = kept.value.detach().clone();
  AdamW optimizer({decayed, kept}, {.weight_decay = 0.5});
  decayed.value.mutable_grad() = at::zeros({64});
  kept.value.mutable_grad() = at::zeros({64});
  const at::Tensor wanted = decayed.value.detach() * (1 - 0.1f * 0.5f);
  optimizer.step(0.1);
  EXPECT_TRUE(at::equal(kept.value.detach(), before));
  EXPECT_TRUE(at::allclose(decayed.value.detach(), wanted, 1e-6, 0));
}

TEST(AdamW, GradientNormIsThatOfAllTogether) {
  const auto a = parameter("a", 5000, 1);
  const auto b = parameter("b", 70, 2);
  AdamW optimizer({a, b}, {});
  set_gradient(a, 3);
  set_gradient(b, 4);
  const at::Tensor all = at::cat({a.value.grad(), b.value.grad()}).to(at::kDouble);
  optimizer.step(1e-3, {.gradient_scale = 0.25});
  EXPECT_NEAR(optimizer.outcome().gradient_norm, 0.25 * all.norm().item<double>(), 1e-12);
}

TEST(AdamW, RestoredStateContinuesBitForBit) {
  for (const bool eight_bit : {false, true}) {
    const auto p = parameter("p", 5000, 1);
    AdamW first({p}, {.eight_bit = eight_bit});
    for (std::uint64_t step = 1; step <= 3; ++step) {
      set_gradient(p, step);
      first.step(1e-2);
    }
    const tensor::Parameter q{"p", p.value.detach().clone().requires_grad_(true), true};
    AdamW second({q}, {.eight_bit = eight_bit});
    std::vector<tensor::Parameter> saved;
    for (const auto& s : first.state()) saved.push_back({s.name, s.value.clone(), false});
    second.load_state(saved, first.steps(), "test");
    for (std::uint64_t step = 4; step <= 6; ++step) {
      set_gradient(p, step);
      set_gradient(q, step);
      first.step(1e-2);
      second.step(1e-2);
    }
    EXPECT_TRUE(at::equal(p.value, q.value));
  }
}

TEST(AdamW, ClippingScalesTheGradients) {
  const auto clipped = parameter("p", 5000, 1);
  const auto scaled = parameter("p", 5000, 1);
  AdamW first({clipped}, {});
  AdamW second({scaled}, {});
  for (std::uint64_t step = 1; step <= 3; ++step) {
    set_gradient(clipped, step);
    set_gradient(scaled, step);
    first.step(1e-2, {.gradient_scale = 0.5, .max_norm = 2});
    const double norm = first.outcome().gradient_norm;
    EXPECT_GT(norm, 2);
    second.step(1e-2, {.gradient_scale = 0.5 * (2 / (norm + 1e-6))});
  }
  EXPECT_TRUE(at::equal(clipped.value, scaled.value));
}

TEST(AdamW, ANonFiniteNormIsNoUpdate) {
  const auto p = parameter("p", 5000, 1);
  const auto q = parameter("q", 70, 2);
  AdamW optimizer({p, q}, {});
  set_gradient(p, 1);
  set_gradient(q, 2);
  optimizer.step(1e-2);
  const at::Tensor value = p.value.detach().clone();
  const at::Tensor m = optimizer.state().front().value.clone();
  q.value.mutable_grad()[3] = std::numeric_limits<float>::infinity();
  optimizer.step(1e-2);
  EXPECT_FALSE(optimizer.outcome().updated);
  EXPECT_EQ(optimizer.outcome().gradient_norm, std::numeric_limits<double>::infinity());
  EXPECT_EQ(optimizer.steps(), 1);
  EXPECT_TRUE(at::equal(p.value.detach(), value));
  EXPECT_TRUE(at::equal(optimizer.state().front().value, m));
}

TEST(AdamW, AParameterWithoutAGradientIsLeftAlone) {
  const auto p = parameter("p", 5000, 1);
  const auto q = parameter("q", 5000, 2);
  AdamW optimizer({p, q}, {.weight_decay = 0.1});
  const at::Tensor value = p.value.detach().clone();
  optimizer.step(1e-2);  // none has one
  EXPECT_EQ(optimizer.outcome().gradient_norm, 0);
  set_gradient(q, 1);
  optimizer.step(1e-2);
  EXPECT_EQ(optimizer.steps(), 2);
  EXPECT_TRUE(at::equal(p.value.detach(), value));
}

TEST(AdamW, GradientsAreZeroAfterAStep) {
  const auto p = parameter("p", 5000, 1);
  AdamW optimizer({p}, {});
  set_gradient(p, 1);
  const void* memory = p.value.grad().const_data_ptr();
  optimizer.step(1e-2);
  EXPECT_EQ(p.value.grad().const_data_ptr(), memory);
  EXPECT_EQ(p.value.grad().count_nonzero().item<std::int64_t>(), 0);
}

TEST(AdamW, ATransposedGradientIsReadInOrder) {
  const auto plain = parameter("p", 6000, 1);
  const tensor::Parameter p{"p", plain.value.detach().clone().view({60, 100}), true};
  const tensor::Parameter q{"p", plain.value.detach().clone().view({60, 100}), true};
  at::manual_seed(1);
  const at::Tensor gradient = at::randn({100, 60});
  p.value.mutable_grad() = gradient.t();
  q.value.mutable_grad() = gradient.t().contiguous();
  AdamW first({p}, {});
  AdamW second({q}, {});
  first.step(1e-2);
  second.step(1e-2);
  EXPECT_TRUE(at::equal(p.value, q.value));
}

TEST(AdamW, CopiesFollowTheParameters) {
  const auto a = parameter("a", 6000, 1);
  const tensor::Parameter matrix{"b", parameter("b", 8000, 2).value.detach().view({500, 16}), true};
  const at::Tensor wide = at::zeros({500, 48}, at::kBFloat16);
  const at::Tensor target = wide.slice(1, 32, 48);
  const auto expected = [&] { return (matrix.value * 1.5).to(at::kBFloat16); };
  AdamW optimizer({a, matrix}, {}, {{.parameter = matrix.value, .copy = target, .scale = 1.5f}});
  EXPECT_TRUE(at::equal(target, expected())) << "before the first step";
  set_gradient(a, 3);
  set_gradient(matrix, 4);
  optimizer.step(1e-2);
  EXPECT_TRUE(at::equal(target, expected()));
  EXPECT_EQ(wide.slice(1, 0, 32).count_nonzero().item<std::int64_t>(), 0);
  matrix.value.mul_(2);
  optimizer.load_state(optimizer.state(), 1, "test");
  EXPECT_TRUE(at::equal(target, expected())) << "after a checkpoint was read";
}

TEST(AdamW, RefusesStateOfAnotherOptimizer) {
  const auto p = parameter("p", 5000, 1);
  AdamW wide({p}, {.eight_bit = false});
  AdamW narrow({p}, {.eight_bit = true});
  EXPECT_THROW(narrow.load_state(wide.state(), 1, "file"), Error);
  EXPECT_THROW(narrow.load_state({}, 1, "file"), Error);
}

}  // namespace
}  // namespace qlora::optim
