#include "nearest_code.h"

#include "qlora/base/error.h"
#include "qlora/kernels/dynamic_maps.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace qlora::kernels {

CodeFinder::CodeFinder(const Table<256>& map) : map_(map.values) {
  for (int code = 0; code < 255; ++code) {
    const float middle = (map[code] + map[code + 1]) * 0.5f;
    last_[code] = code % 2 == 0 ? middle : std::nextafter(middle, -1.0f);
  }
  last_[255] = std::numeric_limits<float>::infinity();
  for (std::uint32_t sign = 0; sign < 2; ++sign) {
    for (std::uint32_t cell = 0; cell < kCells; ++cell) {
      const std::uint32_t first = kLeast + (cell << 16);
      const auto inner = std::bit_cast<float>(sign << 31 | (cell == 0 ? 0 : first));
      const auto outer = std::bit_cast<float>(sign << 31 | std::min(first + 0xffff, kOne));
      const std::uint8_t least = nearest_code(std::min(inner, outer), map_);
      QLORA_ASSERT(nearest_code(std::max(inner, outer), map_) <= least + 1);
      lower_[sign][cell] = least;
    }
  }
}

const CodeFinder& signed_finder() {
  static const CodeFinder finder(kSignedMap);
  return finder;
}

const CodeFinder& unsigned_finder() {
  static const CodeFinder finder(kUnsignedMap);
  return finder;
}

}  // namespace qlora::kernels
