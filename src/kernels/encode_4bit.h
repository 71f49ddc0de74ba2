#pragma once
// The 4-bit code of one scaled value, and a run of them on the host.

#include "qlora/kernels/code_tables.h"

namespace qlora::kernels {

// How many thresholds lie strictly below x; 0 for NaN.
template <int N>
QLORA_HOST_DEVICE inline std::uint32_t rank_of(float x, const Table<N>& thresholds) {
  std::uint32_t rank = 0;
  for (int i = 0; i < N; ++i) rank += x > thresholds[i] ? 1u : 0u;
  return rank;
}

QLORA_HOST_DEVICE inline std::uint32_t encode_nf4(float x, const Table<15>& thresholds) {
  return rank_of(x, thresholds);
}

QLORA_HOST_DEVICE inline std::uint32_t encode_fp4(float x, const Table<7>& thresholds) {
  const std::uint32_t rank = rank_of(x < 0 ? -x : x, thresholds);
  return (kFp4CodeOfRank >> (4 * rank) & 7u) | (x < 0 ? 8u : 0u);
}

// packed = codes of values[i] * scale, two a byte; an odd end is followed by the code of 0.
namespace portable {
void encode_run(QuantType type, const float* values, std::int64_t n, float scale,
                std::uint8_t* packed);
}

// The same for n rounded down to a multiple of 32; returns how many elements that is.
namespace avx2 {
std::int64_t encode_run(QuantType type, const float* values, std::int64_t n, float scale,
                        std::uint8_t* packed);
}

}  // namespace qlora::kernels
