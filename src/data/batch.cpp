#include "qlora/data/batch.h"

#include "qlora/base/error.h"

#include <algorithm>

namespace qlora::data {

std::int64_t Sample::label_count() const {
  if (labels.empty()) return 0;
  return std::count_if(labels.begin() + 1, labels.end(),
                       [](std::int32_t label) { return label != kNotLearned; });
}

Batch make_batch(std::span<const Sample> samples, std::int64_t pad_id) {
  Batch batch;
  batch.rows = std::ssize(samples);
  for (const Sample& sample : samples) {
    QLORA_ASSERT(sample.ids.size() == sample.labels.size());
    batch.length = std::max(batch.length, std::ssize(sample.ids));
  }
  const auto cells = static_cast<std::size_t>(batch.rows * batch.length);
  batch.input_ids.assign(cells, pad_id);
  batch.labels.assign(cells, kNotLearned);
  for (std::int64_t row = 0; row < batch.rows; ++row) {
    const Sample& sample = samples[static_cast<std::size_t>(row)];
    std::ranges::copy(sample.ids, batch.input_ids.begin() + row * batch.length);
    std::ranges::copy(sample.labels, batch.labels.begin() + row * batch.length);
    batch.lengths.push_back(std::ssize(sample.ids));
    batch.sample_ids.push_back(sample.id);
    batch.label_count += sample.label_count();
    batch.token_count += batch.lengths.back();
  }
  return batch;
}

}  // namespace qlora::data
