#pragma once
// Nearest entry of an ascending 256-entry map.

#include "qlora/kernels/dynamic_maps.h"

#include <bit>
#include <cmath>
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

QLORA_HOST_DEVICE inline int bits_of(float x) {
#ifdef __CUDA_ARCH__
  return __float_as_int(x);
#else
  return std::bit_cast<int>(x);
#endif
}

// nearest_code for one of the dynamic maps in two look-ups, the same object on host and device.
// kZero: the code of 0. A cell holds the magnitudes of equal exponent and upper 7 bits of mantissa;
// all below 2^-23 share the first. No cell meets more than two codes. Below 0 the signed map
// mirrors its upper part, which alone has a code of 1.
template <int kZero>
class CodeFinder {
 public:
  constexpr explicit CodeFinder(const Table<256>& map) {
    constexpr int kCodes = 256 - kZero;
    for (int k = 0; k + 1 < kCodes; ++k) last_[k] = last_of(map, kZero + k);
    last_[kCodes - 1] = 0x7f800000;  // infinity
    int k = 0;
    for (int cell = 0; cell < kCells; ++cell) {
      const int least = cell == 0 ? 0 : kLeast + (cell << 16);
      while (least > last_[k]) ++k;
      lower_[cell] = static_cast<std::uint8_t>(k);
    }
  }

  // For x in [-1, 1] and NaN. NaN, whose bits are above infinity's, comes out one past the last
  // code, which wraps to 0: the search gives it that, too.
  std::uint8_t find(float x) const {
    const int away = codes_from_zero(std::fabs(x));
    return static_cast<std::uint8_t>(std::signbit(x) ? larger(kZero - away, 0) : kZero + away);
  }

  // The code of a moment whose magnitude is x in units of its block's largest. Where the nearest
  // code has the other sign (that of 0 is positive), the next one is taken.
  QLORA_HOST_DEVICE int moment_code(float moment, float x) const {
    const int away = codes_from_zero(x);
    if (kZero == 0 || bits_of(moment) >= 0) return kZero + away;
    return larger(kZero - larger(away, 1), 0);
  }

 private:
  static constexpr int kLeast = 104 << 23;  // the bits of 2^-23
  static constexpr int kCells = 23 * 128 + 1;
  static constexpr int kLastCell = (kCells - 1) << 16;

  // How many codes lie between 0 and that of x >= 0. Floats are in the order of their bits.
  QLORA_HOST_DEVICE int codes_from_zero(float x) const {
    const int over = bits_of(x) - kLeast;
    const int k = lower_[(over < 0 ? 0 : over > kLastCell ? kLastCell : over) >> 16];
    return k + static_cast<int>(static_cast<std::uint32_t>(last_[k] - bits_of(x)) >> 31);
  }

  QLORA_HOST_DEVICE static int larger(int a, int b) { return a > b ? a : b; }

  // The largest float whose nearest code is `code`: of an exact tie the even code takes it.
  static constexpr int last_of(const Table<256>& map, int code) {
    const float middle = (map[code] + map[code + 1]) * 0.5f;
    return std::bit_cast<int>(middle) - code % 2;
  }

  int last_[256 - kZero]{};       // bits, of code kZero + k
  std::uint8_t lower_[kCells]{};  // of each cell's least magnitude, the code less kZero
};

inline constexpr CodeFinder<127> kSignedFinder(kSignedMap);
inline constexpr CodeFinder<0> kUnsignedFinder(kUnsignedMap);

}  // namespace qlora::kernels
