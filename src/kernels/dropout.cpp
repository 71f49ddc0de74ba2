#include "qlora/kernels/dropout.h"

#include "checks.h"
#include "convert.h"
#include "dropout_math.h"
#include "qlora/base/narrow.h"
#include "qlora/base/parallel.h"
#include "simd.h"

#include <algorithm>
#include <array>

namespace qlora::kernels {

PhiloxKey philox_key(const DropoutKey& key) {
  const auto low = [](std::uint64_t value) { return static_cast<std::uint32_t>(value); };
  const Philox4 mixed =
      philox({{low(key.seed), low(key.seed >> 32), low(key.module), low(key.module >> 32)}},
             {key.epoch, 0});
  return {mixed.words[0], mixed.words[1]};
}

DropoutRule dropout_rule(const DropoutKey& key, float p) {
  check_dropout_rate(p);
  return {philox_key(key), p, static_cast<float>(1 / (1 - double{p}))};
}

namespace cpu {
namespace {

// Features of one row that are worked on at a time; a multiple of 32.
constexpr std::int64_t kTile = 1024;
// Elements that are worth waking a thread for.
constexpr std::int64_t kGrain = 16384;

void drop_run(float* values, std::int64_t n, std::int64_t first_feature, std::int64_t sample,
              std::int64_t position, const DropoutRule& rule) {
  const std::int64_t quad = first_feature / 4;
  std::int64_t i = use_avx2() ? avx2::drop_run(values, n, quad, sample, position, rule) : 0;
  for (; i < n; i += 4) {
    const Philox4 random = row_words(quad + i / 4, sample, position, rule.key);
    for (std::int64_t j = 0; j < std::min<std::int64_t>(4, n - i); ++j) {
      values[i + j] = drop(values[i + j], random.words[j], rule);
    }
  }
}

}  // namespace

void dropout(const void* x, DType dtype, std::int64_t rows, std::int64_t cols,
             const std::int64_t* samples, const std::int64_t* positions, const DropoutKey& key,
             float p, void* out, Stream) {
  const DropoutRule rule = dropout_rule(key, p);
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
