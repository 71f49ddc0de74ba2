#include "qlora/kernels/dropout.h"

#include "checks.h"
#include "convert.h"
#include "dropout_math.h"
#include "qlora/base/narrow.h"
#include "qlora/base/parallel.h"
#include "simd.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace qlora::kernels {

PhiloxKey philox_key(const DropoutKey& key) {
  const auto low = [](std::uint64_t value) { return static_cast<std::uint32_t>(value); };
  const Philox4 mixed = philox(
      {{low(key.seed), low(key.seed >> 32), low(key.module), low(key.module >> 32)}}, {0, 0});
  return {mixed.words[0], mixed.words[1]};
}

std::int64_t sample_name(std::int64_t sample, std::int64_t epoch) {
  const std::uint64_t high = narrow<std::uint32_t>(epoch);
  return static_cast<std::int64_t>(high << 32 | narrow<std::uint32_t>(sample));
}

DropoutRule dropout_rule(PhiloxKey key, float p) {
  check_dropout_rate(p);
  // Of the rates that round to 1, too, something is kept.
  const double threshold = std::min(std::round(double{p} * 65536), 65535.0);
  return {key, static_cast<std::uint32_t>(threshold),
          static_cast<float>(65536 / (65536 - threshold))};
}

namespace cpu {
namespace {

// Features of one row that are worked on at a time; a multiple of 64.
constexpr std::int64_t kTile = 1024;
// Elements that are worth waking a thread for.
constexpr std::int64_t kGrain = 16384;

}  // namespace

void drop_run(float* values, std::int64_t n, std::int64_t first_feature, std::int64_t sample,
              std::int64_t position, const DropoutRule& rule) {
  std::int64_t i =
      use_avx2() ? avx2::drop_run(values, n, first_feature, sample, position, rule) : 0;
  for (; i < n; i += kOctet) {
    const Philox4 random = row_words((first_feature + i) / kOctet, sample, position, rule.key);
    for (int h = 0; h < std::min<std::int64_t>(kOctet, n - i); ++h) {
      values[i + h] = drop(values[i + h], random, h, rule);
    }
  }
}

void dropout(const void* x, DType dtype, std::int64_t rows, std::int64_t cols,
             const std::int64_t* samples, const std::int64_t* positions, const DropoutKey& key,
             float p, void* out, Stream) {
  const DropoutRule rule = dropout_rule(philox_key(key), p);
  const std::int64_t grain = div_up(kGrain, std::max<std::int64_t>(cols, 1));
  parallel_for(rows, grain, [&](std::int64_t first, std::int64_t last) {
    std::array<float, kTile> values;
    for (std::int64_t row = first; row < last; ++row) {
      for (std::int64_t feature = 0; feature < cols; feature += kTile) {
        const std::int64_t n = std::min(kTile, cols - feature);
        load_floats(dtype, x, row * cols + feature, n, values.data());
        drop_run(values.data(), n, feature, samples[row], positions[row], rule);
        store_floats(dtype, values.data(), n, out, row * cols + feature);
      }
    }
  });
}

}  // namespace cpu
}  // namespace qlora::kernels
