#pragma once
// lane_sum by one CUDA block of kSumLanes threads: the same bits.

#include "lane_sum.h"

namespace qlora::kernels {

// Call once per kernel, by all threads; the sum comes back in all of them.
template <class ValueOf>
__device__ double block_lane_sum(std::int64_t n, const ValueOf& value_of) {
  __shared__ double lanes[kSumLanes];
  const int lane = threadIdx.x;
  double sum = 0;
  for (std::int64_t i = lane; i < n; i += kSumLanes) sum += value_of(i);
  lanes[lane] = sum;
  __syncthreads();
  for (int half = kSumLanes / 2; half > 0; half /= 2) {
    if (lane < half) lanes[lane] += lanes[lane + half];
    __syncthreads();
  }
  return lanes[0];
}

}  // namespace qlora::kernels
