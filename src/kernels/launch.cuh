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

// The largest of a warp's values in all lanes. None is negative or NaN: such floats are in the
// order of their bits.
__device__ inline float warp_largest(float value) {
  return __uint_as_float(__reduce_max_sync(0xffffffffu, __float_as_uint(value)));
}

// Elements in one 16-byte access.
template <class T>
inline constexpr int kUnit = 16 / sizeof(T);

// Four elements in one access of 16 bytes, of a 16-bit type in one of 8.
__device__ inline void load4(const float* x, float* values) {
  const float4 raw = *reinterpret_cast<const float4*>(x);
  values[0] = raw.x, values[1] = raw.y, values[2] = raw.z, values[3] = raw.w;
}

__device__ inline void store4(const float* values, float* x) {
  *reinterpret_cast<float4*>(x) = make_float4(values[0], values[1], values[2], values[3]);
}

template <class T>
__device__ void load4(const T* x, float* values) {
  const uint2 raw = *reinterpret_cast<const uint2*>(x);
  const std::uint32_t words[2] = {raw.x, raw.y};
  for (int i = 0; i < 4; ++i) {
    values[i] = to_float(T{static_cast<std::uint16_t>(words[i / 2] >> (i % 2 * 16))});
  }
}

// Two 16-bit elements as they lie in memory.
template <class T>
__device__ std::uint32_t packed_pair(float even, float odd) {
  return std::uint32_t{from_float<T>(even).bits} | std::uint32_t{from_float<T>(odd).bits} << 16;
}

template <class T>
__device__ void store4(const float* values, T* x) {
  *reinterpret_cast<uint2*>(x) =
      make_uint2(packed_pair<T>(values[0], values[1]), packed_pair<T>(values[2], values[3]));
}

__device__ inline void load16(const float* x, float (&values)[4]) { load4(x, values); }

__device__ inline void store16(const float (&values)[4], float* x) { store4(values, x); }

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
  for (int i = 0; i < 4; ++i) words[i] = packed_pair<T>(values[2 * i], values[2 * i + 1]);
  *reinterpret_cast<uint4*>(x) = make_uint4(words[0], words[1], words[2], words[3]);
}

}  // namespace qlora::kernels
