#pragma once
// lane_sum by one CUDA block of kSumThreads threads, thread t of which holds lanes 4t to 4t + 3:
// the same bits.

#include "lane_sum.h"
#include "launch.cuh"

namespace qlora::kernels {

inline constexpr int kSumThreads = kSumLanes / 4;
static_assert(kSumThreads == 2 * kWarp, "one exchange through shared memory, then a warp's own");

// The halving tree over the lanes; the sum comes back in all threads.
__device__ inline double sum_of_lanes(double (&lanes)[4]) {
  __shared__ double upper[4][kWarp];
  __shared__ double sum;
  const int thread = threadIdx.x;
  if (thread >= kWarp) {
    for (int k = 0; k < 4; ++k) upper[k][thread - kWarp] = lanes[k];
  }
  __syncthreads();
  if (thread < kWarp) {
    for (int k = 0; k < 4; ++k) lanes[k] += upper[k][thread];
    for (int half = kWarp / 2; half > 0; half /= 2) {
      for (int k = 0; k < 4; ++k) lanes[k] += __shfl_down_sync(0xffffffffu, lanes[k], half);
    }
    if (thread == 0) sum = (lanes[0] + lanes[2]) + (lanes[1] + lanes[3]);
  }
  __syncthreads();
  return sum;
}

// Sum of n values; load_four(i, values) gives those from i to i + 3 as doubles, 0 beyond n.
template <class LoadFour>
__device__ double block_lane_sum(std::int64_t n, const LoadFour& load_four) {
  double lanes[4] = {};
#pragma unroll 8
  for (std::int64_t i = 4 * threadIdx.x; i < n; i += kSumLanes) {
    double values[4];
    load_four(i, values);
    for (int k = 0; k < 4; ++k) lanes[k] += values[k];
  }
  return sum_of_lanes(lanes);
}

}  // namespace qlora::kernels
