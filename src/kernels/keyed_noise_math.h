#pragma once
// What both twins of the keyed noise share.

#include "dropout_math.h"

namespace qlora::kernels {

// 2u - 1 is exact for the 24 bits of u, so the product is the only rounding.
QLORA_HOST_DEVICE inline float noise(std::uint32_t word, float scale) {
  return scale * (2.0f * to_unit_float(word) - 1.0f);
}

}  // namespace qlora::kernels
