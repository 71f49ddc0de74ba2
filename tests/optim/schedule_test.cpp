// Values of transformers' optimization.py formulas, worked out by hand.

#include "qlora/optim/schedule.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

namespace qlora::optim {
namespace {

Schedule schedule(LrSchedulerType type, std::int64_t warmup = 10) {
  return {.type = type, .learning_rate = 2.0, .warmup_steps = warmup, .max_steps = 110};
}

TEST(Schedule, WarmsUpFromZero) {
  for (const auto type : {LrSchedulerType::Linear, LrSchedulerType::Cosine,
                          LrSchedulerType::ConstantWithWarmup, LrSchedulerType::InverseSqrt}) {
    EXPECT_EQ(learning_rate(schedule(type), 0), 0.0);
    EXPECT_DOUBLE_EQ(learning_rate(schedule(type), 5), 1.0);
    EXPECT_DOUBLE_EQ(learning_rate(schedule(type), 10), 2.0);
  }
}

TEST(Schedule, ConstantIgnoresWarmup) {
  EXPECT_EQ(learning_rate(schedule(LrSchedulerType::Constant), 0), 2.0);
  EXPECT_EQ(learning_rate(schedule(LrSchedulerType::Constant), 100), 2.0);
  EXPECT_EQ(learning_rate(schedule(LrSchedulerType::ConstantWithWarmup), 100), 2.0);
}

TEST(Schedule, DecaysAfterWarmup) {
  EXPECT_DOUBLE_EQ(learning_rate(schedule(LrSchedulerType::Linear), 60), 1.0);
  EXPECT_DOUBLE_EQ(learning_rate(schedule(LrSchedulerType::Linear), 110), 0.0);
  EXPECT_NEAR(learning_rate(schedule(LrSchedulerType::Cosine), 60), 1.0, 1e-15);
  EXPECT_NEAR(learning_rate(schedule(LrSchedulerType::Cosine), 35),
              1 + std::cos(std::numbers::pi / 4), 1e-15);
  EXPECT_NEAR(learning_rate(schedule(LrSchedulerType::Cosine), 110), 0.0, 1e-15);
  EXPECT_EQ(learning_rate(schedule(LrSchedulerType::CosineWithRestarts), 110), 0.0);
  // Halfway from the peak to 1e-7.
  EXPECT_DOUBLE_EQ(learning_rate(schedule(LrSchedulerType::Polynomial), 60),
                   (2.0 - 1e-7) / 2 + 1e-7);
  EXPECT_DOUBLE_EQ(learning_rate(schedule(LrSchedulerType::Polynomial), 110), 1e-7);
  EXPECT_DOUBLE_EQ(learning_rate(schedule(LrSchedulerType::InverseSqrt), 40), 1.0);
  EXPECT_DOUBLE_EQ(learning_rate(schedule(LrSchedulerType::InverseSqrt, 0), 30000), 1.0);
}

TEST(Schedule, CosineWithMinLrEndsAtItsShare) {
  Schedule s = schedule(LrSchedulerType::CosineWithMinLr);
  s.min_lr_rate = 0.25;
  EXPECT_DOUBLE_EQ(learning_rate(s, 10), 2.0);
  EXPECT_DOUBLE_EQ(learning_rate(s, 60), 1.25);
  EXPECT_DOUBLE_EQ(learning_rate(s, 110), 0.5);
}

}  // namespace
}  // namespace qlora::optim
