#pragma once
// Philox4x32-10, the counter-based generator of Salmon et al., "Parallel random numbers: as easy
// as 1, 2, 3" (SC11). The same counter and key give the same four words on host and device, so a
// random decision can be named (seed, sample, position, feature) instead of drawn in order.

#include <cstdint>

#ifdef __CUDACC__
#define QLORA_HOST_DEVICE __host__ __device__
#else
#define QLORA_HOST_DEVICE
#endif

namespace qlora {

struct Philox4 {
  std::uint32_t words[4];
};

struct PhiloxKey {
  std::uint32_t low;
  std::uint32_t high;
};

QLORA_HOST_DEVICE inline Philox4 philox(Philox4 counter, PhiloxKey key) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = std::uint64_t{0xD2511F53u} * counter.words[0];
    const std::uint64_t p1 = std::uint64_t{0xCD9E8D57u} * counter.words[2];
    counter = {{static_cast<std::uint32_t>(p1 >> 32) ^ counter.words[1] ^ key.low,
                static_cast<std::uint32_t>(p1),
                static_cast<std::uint32_t>(p0 >> 32) ^ counter.words[3] ^ key.high,
                static_cast<std::uint32_t>(p0)}};
    key.low += 0x9E3779B9u;
    key.high += 0xBB67AE85u;
  }
  return counter;
}

// Uniform in [0, 1) with 24 bits.
QLORA_HOST_DEVICE inline float to_unit_float(std::uint32_t word) {
  return static_cast<float>(word >> 8) * 0x1p-24f;
}

}  // namespace qlora
