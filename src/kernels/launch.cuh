#pragma once
// Small pieces that the kernels share.

#include "element.h"
#include "qlora/kernels/cuda_check.h"
#include "qlora/kernels/types.h"

#include <cuda_runtime.h>

namespace qlora::kernels {

inline constexpr int kWarp = 32;

inline cudaStream_t as_cuda(Stream stream) { return static_cast<cudaStream_t>(stream); }

// Blocks of a one-dimensional launch that gives each of `n` things to one of `per_block`.
inline unsigned grid_for(std::int64_t n, std::int64_t per_block) {
  return static_cast<unsigned>((n + per_block - 1) / per_block);
}

// The largest |value| of a warp, NaN passed over, in all lanes.
__device__ inline float warp_largest(float value) {
  for (int step = kWarp / 2; step > 0; step /= 2) {
    const float other = __shfl_xor_sync(0xffffffffu, value, step);
    if (other > value) value = other;
  }
  return value;
}

// Elements in one 16-byte access.
template <class T>
inline constexpr int kUnit = 16 / sizeof(T);

__device__ inline void load16(const float* x, float (&values)[4]) {
  const float4 raw = *reinterpret_cast<const float4*>(x);
  values[0] = raw.x, values[1] = raw.y, values[2] = raw.z, values[3] = raw.w;
}

__device__ inline void store16(const float (&values)[4], float* x) {
  *reinterpret_cast<float4*>(x) = make_float4(values[0], values[1], values[2], values[3]);
}

template <class T>
__device__ void load16(const T* x, float (&values)[8]) {
  const uint4 raw = *reinterpret_cast<const uint4*>(x);
  const std::uint32_t words[4] = {raw.x, raw.y, raw.z, raw.w};
  for (int i = 0; i < 8; ++i) {
    values[i] = to_float(T{static_cast<std::uint16_t>(words[i / 2] >> (i % 2 * 16))});
  }
}

template <class T>
__device__ void store16(const float (&values)[8], T* x) {
  std::uint32_t words[4];
  for (int i = 0; i < 4; ++i) {
    const std::uint32_t low = from_float<T>(values[2 * i]).bits;
    const std::uint32_t high = from_float<T>(values[2 * i + 1]).bits;
    words[i] = low | high << 16;
  }
  *reinterpret_cast<uint4*>(x) = make_uint4(words[0], words[1], words[2], words[3]);
}

}  // namespace qlora::kernels
