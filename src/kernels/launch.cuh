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

// The sum of a warp's values, in all lanes.
__device__ inline float warp_sum(float value) {
  for (int step = kWarp / 2; step > 0; step /= 2) {
    value += __shfl_xor_sync(0xffffffffu, value, step);
  }
  return value;
}

// Elements in one 16-byte access.
template <class T>
inline constexpr int kUnit = 16 / sizeof(T);

template <class T>
__device__ void unpack16(uint4 raw, float (&values)[kUnit<T>]) {
  const std::uint32_t words[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
  for (int i = 0; i < kUnit<T>; ++i) {
    if constexpr (kUnit<T> == 4) {
      values[i] = __uint_as_float(words[i]);
    } else {
      values[i] = to_float(T{static_cast<std::uint16_t>(words[i / 2] >> (i % 2 * 16))});
    }
  }
}

// Two values rounded to a 16-bit type, the first in the low half.
__device__ inline std::uint32_t pack_pair(float first, float second, Float16) {
  std::uint32_t result;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(result) : "f"(second), "f"(first));
  return result;
}

__device__ inline std::uint32_t pack_pair(float first, float second, BFloat16) {
  std::uint32_t result;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(result) : "f"(second), "f"(first));
  return result;
}

// Four elements in one access: 16 bytes, or 8 of a 16-bit type.
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

template <class T>
__device__ void store4(const float* values, T* x) {
  *reinterpret_cast<uint2*>(x) =
      make_uint2(pack_pair(values[0], values[1], T{}), pack_pair(values[2], values[3], T{}));
}

template <class T>
__device__ void load16(const T* x, float (&values)[kUnit<T>]) {
  unpack16<T>(*reinterpret_cast<const uint4*>(x), values);
}

template <class T>
__device__ void store16(const float (&values)[kUnit<T>], T* x) {
  std::uint32_t words[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if constexpr (kUnit<T> == 4) {
      words[i] = __float_as_uint(values[i]);
    } else {
      words[i] = pack_pair(values[2 * i], values[2 * i + 1], T{});
    }
  }
  // One integer: the compiler splits a uint4's store where another goes to the same pointer plus
  // an offset that it does not know.
  using Bits = unsigned __int128;
  const std::uint64_t low = words[0] | std::uint64_t{words[1]} << 32;
  const std::uint64_t high = words[2] | std::uint64_t{words[3]} << 32;
  *reinterpret_cast<Bits*>(x) = low | Bits{high} << 64;
}

}  // namespace qlora::kernels
