#pragma once
// Nearest entry of an ascending 256-entry map.

#include "qlora/kernels/table.h"

#include <array>
#include <bit>
#include <cstdint>

namespace qlora::kernels {

// bitsandbytes' binary search (csrc/kernels.cu, dQuantize). The last pivot has an even index, so
// an exact tie takes the even code.
QLORA_HOST_DEVICE inline std::uint8_t nearest_code(float x, const float* map) {
  int pivot = 127;
  int lower = 0;
  int upper = 255;
  for (int step = 64; step > 0; step /= 2) {
    if (x > map[pivot]) {
      lower = pivot;
      pivot += step;
    } else {
      upper = pivot;
      pivot -= step;
    }
  }
  if (x > map[pivot]) {
    return static_cast<std::uint8_t>(x > (map[upper] + map[pivot]) * 0.5f ? upper : pivot);
  }
  return static_cast<std::uint8_t>(x < (map[lower] + map[pivot]) * 0.5f ? lower : pivot);
}

// What a block is multiplied by before its codes are looked up. The floor, bitsandbytes' on the
// CPU, keeps a block of zeros at zeros.
QLORA_HOST_DEVICE inline float inverse_scale(float absmax) {
  return 1.0f / (absmax > 1e-38f ? absmax : 1e-38f);
}

// nearest_code for x in [-1, 1] (and NaN) in two look-ups, for one of the dynamic maps. A cell
// holds the floats of equal sign, exponent and upper 7 bits of mantissa; all below 2^-23 share the
// first cell of their sign. No cell meets more than two codes.
class CodeFinder {
 public:
  explicit CodeFinder(const Table<256>& map);

  std::uint8_t find(float x) const {
    const auto bits = std::bit_cast<std::uint32_t>(x);
    const std::uint32_t magnitude = bits & 0x7fffffffu;
    if (magnitude > kOne) return nearest_code(x, map_);
    const std::uint32_t cell = magnitude < kLeast ? 0 : (magnitude - kLeast) >> 16;
    const std::uint8_t code = lower_[bits >> 31][cell];
    return static_cast<std::uint8_t>(code + (x > last_[code] ? 1 : 0));
  }

 private:
  static constexpr std::uint32_t kLeast = 104u << 23;  // 2^-23
  static constexpr std::uint32_t kOne = 127u << 23;
  static constexpr int kCells = 23 * 128 + 1;

  const float* map_;
  std::array<float, 256> last_;                            // the largest float of each code
  std::array<std::array<std::uint8_t, kCells>, 2> lower_;  // code of each cell's least float
};

// Those of kSignedMap and kUnsignedMap.
const CodeFinder& signed_finder();
const CodeFinder& unsigned_finder();

}  // namespace qlora::kernels
