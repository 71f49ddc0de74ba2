#include "qlora/data/batch.h"

#include "qlora/base/error.h"

#include <algorithm>

namespace qlora::data {

std::int64_t Sample::label_count() const {
  if (labels.empty()) return 0;
  return std::count_if(labels.begin() + 1, labels.end(),
                       [](std::int32_t label) { return label != kNotLearned; });
}

Batch make_batch(std::span<const std::vector<Sample>> rows, std::int64_t pad_id) {
  Batch batch;
  batch.rows = std::ssize(rows);
  for (const std::vector<Sample>& row : rows) {
    std::int64_t length = 0;
    for (const Sample& sample : row) length += std::ssize(sample.ids);
    batch.length = std::max(batch.length, length);
  }
  const auto cells = static_cast<std::size_t>(batch.rows * batch.length);
  batch.input_ids.assign(cells, pad_id);
  batch.labels.assign(cells, kNotLearned);
  for (std::int64_t row = 0; row < batch.rows; ++row) {
    const std::vector<Sample>& samples = rows[static_cast<std::size_t>(row)];
    QLORA_ASSERT(!samples.empty());
    std::int64_t at = row * batch.length;
    for (const Sample& sample : samples) {
      QLORA_ASSERT(!sample.ids.empty() && sample.ids.size() == sample.labels.size());
      std::ranges::copy(sample.ids, batch.input_ids.begin() + at);
      std::copy(sample.labels.begin() + 1, sample.labels.end(), batch.labels.begin() + at + 1);
      at += std::ssize(sample.ids);
      batch.lengths.push_back(std::ssize(sample.ids));
      batch.sample_ids.push_back(sample.id);
      batch.weights.push_back(sample.weight);
      batch.label_count += sample.label_count();
      batch.label_weight += static_cast<double>(sample.label_count()) * double{sample.weight};
      batch.token_count += batch.lengths.back();
    }
    batch.samples_in_row.push_back(std::ssize(samples));
  }
  return batch;
}

}  // namespace qlora::data
