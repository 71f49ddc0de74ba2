#pragma once
// A sum whose order depends on its length alone and that a CUDA block can form in the same order:
// element i belongs to lane i % 256, a lane adds its elements in order, and the lanes are added by
// halves. The device's form stands in lane_sum.cuh.

#include <array>
#include <cstdint>

namespace qlora::kernels {

inline constexpr int kSumLanes = 256;

// Sum of value_of(0) ... value_of(n - 1), each a double.
template <class ValueOf>
double lane_sum(std::int64_t n, const ValueOf& value_of) {
  std::array<double, kSumLanes> lanes{};
  std::int64_t i = 0;
  for (; i + kSumLanes <= n; i += kSumLanes) {
    for (int lane = 0; lane < kSumLanes; ++lane) lanes[lane] += value_of(i + lane);
  }
  for (int lane = 0; i + lane < n; ++lane) lanes[lane] += value_of(i + lane);
  for (int half = kSumLanes / 2; half > 0; half /= 2) {
    for (int lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
  }
  return lanes[0];
}

}  // namespace qlora::kernels
