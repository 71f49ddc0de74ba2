#include "qlora/kernels/dequantize_4bit.h"

#include "checks.h"
#include "decode_4bit.h"
#include "qlora/base/narrow.h"
#include "qlora/base/parallel.h"
#include "simd.h"

#include <algorithm>
#include <array>

namespace qlora::kernels::cpu {
namespace {

// Elements that are worth waking a thread for.
constexpr std::int64_t kGrain = 65536;

template <class T>
void decode_block(const BlockToDecode& block, T* out) {
  std::int64_t i = use_avx2() ? avx2::decode(block, out) : 0;
  if (i == block.n) return;
  std::array<T, 16> values;
  for (int code = 0; code < 16; ++code) {
    values[code] = from_float<T>(block.codes[code] * block.scale);
  }
  for (; i < block.n; ++i) {
    const int byte = block.packed[i / 2];
    out[i] = values[i % 2 == 0 ? byte >> 4 : byte & 15];
  }
}

}  // namespace

void dequantize_4bit(QuantType type, const std::uint8_t* packed, const Absmax& absmax,
                     std::int64_t begin, std::int64_t end, std::int64_t block, void* out,
                     DType out_dtype, Stream) {
  check_range(begin, end, block);
  const std::int64_t first_block = begin / block;
  const auto decode_blocks = [&](auto* target, std::int64_t first, std::int64_t last) {
    for (std::int64_t b = first_block + first; b < first_block + last; ++b) {
      const std::int64_t start = b * block;
      decode_block({codes_of(type), packed + start / 2,
                    scale_of_block(absmax, b, absmax.nested_map), std::min(block, end - start)},
                   target + (start - begin));
    }
  };
  with_element(out_dtype, "dequantize_4bit", [&](auto element) {
    auto* target = static_cast<decltype(element)*>(out);
    parallel_for(
        div_up(end - begin, block), kGrain / block,
        [&](std::int64_t first, std::int64_t last) { decode_blocks(target, first, last); });
  });
}

void dequantize_absmax(const Absmax& absmax, std::int64_t blocks, float* out, Stream) {
  for (std::int64_t b = 0; b < blocks; ++b) out[b] = scale_of_block(absmax, b, absmax.nested_map);
}

}  // namespace qlora::kernels::cpu
