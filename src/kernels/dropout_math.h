#pragma once
// What both twins of dropout share. The rule stands in dropout.h.

#include "qlora/kernels/dropout.h"

namespace qlora::kernels {

struct DropoutRule {
  PhiloxKey key;
  float p;
  float scale;  // 1 / (1 - p)
};

// The words of features 4 * quad ... 4 * quad + 3 of one row.
QLORA_HOST_DEVICE inline Philox4 row_words(std::int64_t quad, std::int64_t sample,
                                           std::int64_t position, PhiloxKey key) {
  return philox({{static_cast<std::uint32_t>(quad), static_cast<std::uint32_t>(position),
                  static_cast<std::uint32_t>(sample),
                  static_cast<std::uint32_t>(static_cast<std::uint64_t>(sample) >> 32)}},
                key);
}

QLORA_HOST_DEVICE inline float drop(float x, std::uint32_t word, const DropoutRule& rule) {
  return to_unit_float(word) >= rule.p ? x * rule.scale : 0.0f;
}

DropoutRule dropout_rule(const DropoutKey& key, float p);

// In place on values[0 .. n), the features first_quad * 4 ... of one row; n rounded down to a
// multiple of 32. Returns how many were done.
namespace avx2 {
std::int64_t drop_run(float* values, std::int64_t n, std::int64_t first_quad, std::int64_t sample,
                      std::int64_t position, const DropoutRule& rule);
}

}  // namespace qlora::kernels
