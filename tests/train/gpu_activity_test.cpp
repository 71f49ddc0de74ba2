// What a GPU's records add up to.

#include "train/gpu_activity.h"

#include "support/gpu.h"

#include <ATen/ops/ones.h>
#include <c10/cuda/CUDAFunctions.h>
#include <gtest/gtest.h>

namespace qlora::train {
namespace {

TEST(GpuActivity, OverlappingRecordsCountOnce) {
  // [100, 200) twice and with a part of it, [150, 260), a gap, [300, 310)
  const GpuActivity activity = summarize({{300, 310, 3, true},
                                          {100, 200, 1, true},
                                          {120, 130, 1, true},
                                          {100, 200, 2, false},
                                          {150, 260, 2, true}});
  EXPECT_DOUBLE_EQ(activity.busy_seconds, 170e-9);
}

TEST(GpuActivity, NeighboursLeaveNoGap) {
  EXPECT_DOUBLE_EQ(summarize({{10, 20, 1, true}, {20, 30, 2, true}}).busy_seconds, 20e-9);
}

TEST(GpuActivity, AGraphsKernelsAreOneLaunch) {
  const GpuActivity activity =
      summarize({{0, 1, 7, true}, {1, 2, 7, true}, {2, 3, 7, false}, {5, 6, 8, true}});
  EXPECT_EQ(activity.kernels, 3);
  EXPECT_EQ(activity.host_launches, 2);
}

TEST(GpuActivity, NothingRecordedIsNothingDone) {
  const GpuActivity activity = summarize({});
  EXPECT_EQ(activity.kernels, 0);
  EXPECT_EQ(activity.host_launches, 0);
  EXPECT_EQ(activity.busy_seconds, 0);
}

TEST(GpuGpuActivity, CountsWhatLibTorchQueues) {
  QLORA_REQUIRE_GPU();
  const at::Tensor x = at::ones({1 << 20}, at::TensorOptions(at::kCUDA));
  const auto work = [&] {
    for (int i = 0; i < 3; ++i) x.mul_(1.5);
    c10::cuda::device_synchronize();
  };
  work();  // loads the kernel
  const auto activity = record_gpu_activity(work);
  if (!activity) GTEST_SKIP() << "no CUPTI in this build, or another profiler is attached";
  EXPECT_EQ(activity->kernels, 3);
  EXPECT_EQ(activity->host_launches, 3);
  EXPECT_GT(activity->busy_seconds, 0);
  EXPECT_LT(activity->busy_seconds, activity->wall_seconds);
}

}  // namespace
}  // namespace qlora::train
