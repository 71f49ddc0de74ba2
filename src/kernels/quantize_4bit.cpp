#include "qlora/kernels/quantize_4bit.h"

#include "checks.h"
#include "convert.h"
#include "encode_4bit.h"
#include "lane_sum.h"
#include "largest_magnitude.h"
#include "nearest_code.h"
#include "qlora/base/narrow.h"
#include "qlora/base/parallel.h"
#include "simd.h"

#include <algorithm>
#include <array>

namespace qlora::kernels {
namespace portable {

void encode_run(QuantType type, const float* values, std::int64_t n, float scale,
                std::uint8_t* packed) {
  const auto code = [&](std::int64_t i) {
    const float x = i < n ? values[i] * scale : 0;
    return type == QuantType::NF4 ? encode_nf4(x, kNf4Thresholds) : encode_fp4(x, kFp4Thresholds);
  };
  for (std::int64_t i = 0; i < n; i += 2) {
    packed[i / 2] = static_cast<std::uint8_t>(code(i) << 4 | code(i + 1));
  }
}

}  // namespace portable

namespace cpu {
namespace {

// Elements that are worth waking a thread for.
constexpr std::int64_t kGrain = 32768;

void encode(QuantType type, const float* values, std::int64_t n, float scale,
            std::uint8_t* packed) {
  const std::int64_t done = use_avx2() ? avx2::encode_run(type, values, n, scale, packed) : 0;
  portable::encode_run(type, values + done, n - done, scale, packed + done / 2);
}

}  // namespace

void quantize_4bit(QuantType type, const void* weight, DType dtype, std::int64_t n,
                   std::int64_t block, std::uint8_t* packed, float* absmax, Stream) {
  check_block_size(block);
  parallel_for(div_up(n, block), kGrain / block, [&](std::int64_t first, std::int64_t last) {
    std::array<float, kMaxBlock> values;
    for (std::int64_t b = first; b < last; ++b) {
      const std::int64_t count = std::min(block, n - b * block);
      load_floats(dtype, weight, b * block, count, values.data());
      absmax[b] = largest_magnitude(values.data(), count);
      encode(type, values.data(), count, inverse_scale(absmax[b]), packed + b * block / 2);
    }
  });
}

void quantize_absmax(const float* absmax, std::int64_t blocks, std::uint8_t* codes,
                     float* nested_absmax, float* offset, Stream) {
  const double sum = lane_sum(blocks, [&](std::int64_t i) { return double{absmax[i]}; });
  const float mean = static_cast<float>(sum / static_cast<double>(blocks));
  *offset = mean;
  parallel_for(div_up(blocks, kNestedBlock), 16, [&](std::int64_t first, std::int64_t last) {
    std::array<float, kNestedBlock> values;
    for (std::int64_t b = first; b < last; ++b) {
      const std::int64_t start = b * kNestedBlock;
      const std::int64_t count = std::min(kNestedBlock, blocks - start);
      for (std::int64_t i = 0; i < count; ++i) values[i] = absmax[start + i] - mean;
      nested_absmax[b] = largest_magnitude(values.data(), count);
      const float scale = inverse_scale(nested_absmax[b]);
      for (std::int64_t i = 0; i < count; ++i)
        codes[start + i] = kSignedFinder.find(values[i] * scale);
    }
  });
}

}  // namespace cpu
}  // namespace qlora::kernels
