#pragma once
// What both twins of dropout share. The rule stands in dropout.h.

#include "qlora/kernels/dropout.h"

namespace qlora::kernels {

struct DropoutRule {
  PhiloxKey key;
  std::uint32_t threshold;  // of 65536
  float scale;              // of what is kept
};

// Features that one Philox call serves.
inline constexpr int kOctet = 8;

// The words of features 8 * octet ... 8 * octet + 7 of one row.
QLORA_HOST_DEVICE inline Philox4 row_words(std::int64_t octet, std::int64_t sample,
                                           std::int64_t position, PhiloxKey key) {
  return philox({{static_cast<std::uint32_t>(octet), static_cast<std::uint32_t>(position),
                  static_cast<std::uint32_t>(sample),
                  static_cast<std::uint32_t>(static_cast<std::uint64_t>(sample) >> 32)}},
                key);
}

// x, the feature `h` of its octet.
QLORA_HOST_DEVICE inline float drop(float x, const Philox4& random, int h,
                                    const DropoutRule& rule) {
  const std::uint32_t bits = random.words[h / 2] >> (16 * (h % 2)) & 0xffffu;
  const float scaled = x * rule.scale;
  return bits >= rule.threshold ? scaled : 0.0f;
}

DropoutRule dropout_rule(PhiloxKey key, float p);

namespace cpu {
// In place on values[0 .. n), the features from first_feature, a multiple of 8, on of one row.
void drop_run(float* values, std::int64_t n, std::int64_t first_feature, std::int64_t sample,
              std::int64_t position, const DropoutRule& rule);
}  // namespace cpu

namespace avx2 {
// The same for n rounded down to a multiple of 64. Returns how many were done.
std::int64_t drop_run(float* values, std::int64_t n, std::int64_t first_feature,
                      std::int64_t sample, std::int64_t position, const DropoutRule& rule);
}  // namespace avx2

}  // namespace qlora::kernels
