#include "qlora/kernels/cross_entropy.h"

#include "convert.h"
#include "lane_sum.h"
#include "qlora/base/error.h"
#include "qlora/base/parallel.h"
#include "rows.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace qlora::kernels::cpu {
namespace {

// Replaces the logits of one row by their gradient and returns the loss.
float differentiate(std::vector<float>& x, std::int32_t label, float scale) {
  if (label == kIgnoredLabel) {
    std::ranges::fill(x, 0.0f);
    return 0;
  }
  QLORA_ASSERT(label >= 0 && label < static_cast<std::int64_t>(x.size()));
  const float largest = *std::ranges::max_element(x);
  const float margin = largest - x[label];
  double sum = 0;
  for (float& value : x) {
    value = std::exp(value - largest);
    sum += value;
  }
  const auto factor = static_cast<float>(scale / sum);
  for (float& value : x) value *= factor;
  x[label] -= scale;
  return margin + static_cast<float>(std::log(sum));
}

}  // namespace

void cross_entropy(Rows logits, DType dtype, std::int64_t rows, std::int64_t vocabulary,
                   const std::int32_t* labels, const float* scale, float* losses, Stream) {
  if (rows == 0) return;
  check_rows(logits, vocabulary);
  parallel_for(rows, row_grain(vocabulary), [&](std::int64_t first, std::int64_t last) {
    std::vector<float> values(static_cast<std::size_t>(vocabulary));
    for (std::int64_t row = first; row < last; ++row) {
      load_floats(dtype, logits.data, row * logits.stride, vocabulary, values.data());
      losses[row] = differentiate(values, labels[row], *scale);
      store_floats(dtype, values.data(), vocabulary, logits.data, row * logits.stride);
    }
  });
}

void sum_losses(const float* losses, std::int64_t rows, double* sum, Stream) {
  *sum += lane_sum(rows, [&](std::int64_t r) { return double{losses[r]}; });
}

}  // namespace qlora::kernels::cpu
