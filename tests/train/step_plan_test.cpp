#include "qlora/train/step_plan.h"
#include "qlora/train/loss_scaler.h"

#include <gtest/gtest.h>

namespace qlora::train {
namespace {

TEST(StepPlan, LastUpdateOfAnEpochTakesWhatIsLeft) {
  const StepPlan plan(10, 4, 3.0, -1);
  EXPECT_EQ(plan.updates_per_epoch(), 3);
  EXPECT_EQ(plan.max_steps(), 9);
  const UpdateWindow short_one = plan.window(5);
  EXPECT_EQ(short_one.epoch, 1);
  EXPECT_EQ(short_one.first_batch, 8);
  EXPECT_EQ(short_one.count, 2);
  EXPECT_TRUE(plan.ends_epoch(2));
  EXPECT_FALSE(plan.ends_epoch(3));
  EXPECT_DOUBLE_EQ(plan.epochs_after(4), 1.4);
  EXPECT_DOUBLE_EQ(plan.epochs_after(9), 3.0);
}

TEST(StepPlan, EveryBatchComesOncePerEpoch) {
  const StepPlan plan(23, 5, 2.0, -1);
  std::int64_t next = 0;
  for (std::int64_t step = 0; step < plan.max_steps(); ++step) {
    const UpdateWindow window = plan.window(step);
    EXPECT_EQ(window.epoch * 23 + window.first_batch, next);
    next += window.count;
  }
  EXPECT_EQ(next, 46);
}

TEST(StepPlan, FractionalEpochsAndMaxSteps) {
  EXPECT_EQ(StepPlan(10, 4, 0.5, -1).max_steps(), 2);
  EXPECT_EQ(StepPlan(10, 4, 3.0, 7).max_steps(), 7);
  EXPECT_EQ(StepPlan(1, 8, 2.0, -1).max_steps(), 2);
}

TEST(LossScaler, HalvesAndSkipsThenGrows) {
  LossScaler scaler(true);
  EXPECT_EQ(scaler.scale(), 65536.0);
  EXPECT_FALSE(scaler.accept(false));
  EXPECT_EQ(scaler.scale(), 32768.0);
  for (int i = 0; i < 1999; ++i) EXPECT_TRUE(scaler.accept(true));
  EXPECT_EQ(scaler.scale(), 32768.0);
  EXPECT_TRUE(scaler.accept(true));
  EXPECT_EQ(scaler.scale(), 65536.0);
}

TEST(LossScaler, OffNeverScales) {
  LossScaler scaler(false);
  EXPECT_EQ(scaler.scale(), 1.0);
  EXPECT_FALSE(scaler.accept(false));
  EXPECT_EQ(scaler.scale(), 1.0);
}

}  // namespace
}  // namespace qlora::train
