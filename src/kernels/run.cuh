#pragma once
// How the row-wise kernels read and write: a row is cut into runs of kWidth neighbouring elements,
// kUnit<T> of them (one 16-byte access) where rows are aligned, single ones where they are not.
// A thread loads several runs before it uses the first, so that many reads are in flight.

#include "launch.cuh"
#include "rows.h"

#include <type_traits>

namespace qlora::kernels {

template <class T, int kWidth>
struct Few {
  T elements[kWidth];
};

// A run as it lies in memory: half the registers of its float32 values.
template <class T, int kWidth>
struct Run {
  static constexpr bool kIsUnit = kWidth == kUnit<T>;
  std::conditional_t<kIsUnit, uint4, Few<T, kWidth>> raw;

  __device__ static Run load(const T* x) { return {*reinterpret_cast<const decltype(raw)*>(x)}; }

  __device__ void store(T* x) const { *reinterpret_cast<decltype(raw)*>(x) = raw; }

  __device__ void unpack(float (&values)[kWidth]) const {
    if constexpr (kIsUnit) {
      unpack16<T>(raw, values);
    } else {
#pragma unroll
      for (int i = 0; i < kWidth; ++i) values[i] = to_float(raw.elements[i]);
    }
  }
};

// Runs first, first + step, ... of a row of `count` runs; zeros past its end.
template <class T, int kWidth, int kRuns>
__device__ void load_runs(const T* row, int first, int step, int count,
                          Run<T, kWidth> (&runs)[kRuns]) {
#pragma unroll
  for (int k = 0; k < kRuns; ++k) {
    const int i = first + k * step;
    runs[k] = i < count ? Run<T, kWidth>::load(row + std::int64_t{i} * kWidth) : Run<T, kWidth>{};
  }
}

// One run, rounded.
template <class T, int kWidth>
__device__ void store_run(const float (&values)[kWidth], T* x) {
  if constexpr (Run<T, kWidth>::kIsUnit) {
    store16(values, x);
  } else {
#pragma unroll
    for (int i = 0; i < kWidth; ++i) x[i] = from_float<T>(values[i]);
  }
}

// Kernels that treat elements independently: a block takes kTileRuns * kTileThreads runs of one
// row, the grid is (rows, blocks of a row).
inline constexpr int kTileThreads = 256;
inline constexpr int kTileRuns = 2;

inline dim3 tile_grid(std::int64_t rows, int count) {
  return {static_cast<unsigned>(rows), grid_for(count, kTileRuns * kTileThreads)};
}

// The first of a thread's runs, kTileThreads apart.
__device__ inline int first_run() {
  return static_cast<int>(blockIdx.y * (kTileRuns * kTileThreads) + threadIdx.x);
}

// Calls body(std::integral_constant<int, width of a run>) for rows that are aligned or not.
template <class T, class Body>
void with_run_width(bool aligned, const Body& body) {
  if (aligned) {
    body(std::integral_constant<int, kUnit<T>>{});
  } else {
    body(std::integral_constant<int, 1>{});
  }
}

}  // namespace qlora::kernels
