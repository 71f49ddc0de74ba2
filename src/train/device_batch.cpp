#include "qlora/train/device_batch.h"

#include "qlora/base/error.h"

#include <algorithm>

namespace qlora::train {
namespace {

at::Tensor tensor_of(const std::vector<std::int64_t>& values, at::IntArrayRef shape) {
  at::Tensor tensor = at::empty(shape, at::kLong);
  QLORA_ASSERT(tensor.numel() == static_cast<std::int64_t>(values.size()));
  std::copy(values.begin(), values.end(), tensor.mutable_data_ptr<std::int64_t>());
  return tensor;
}

}  // namespace

DeviceBatch to_device(const data::Batch& batch, c10::Device device) {
  // Pads go on where the last sample of their row ends.
  std::vector<std::int64_t> documents, samples, positions, lengths;
  for (const std::int64_t count : batch.samples_in_row) {
    const std::int64_t row_end = std::ssize(samples) + batch.length;
    for (std::int64_t k = 0; k < count; ++k) {
      const std::size_t at = documents.size();
      const std::int64_t length = k + 1 < count ? batch.lengths[at] : row_end - std::ssize(samples);
      documents.push_back(length);
      samples.insert(samples.end(), static_cast<std::size_t>(length), batch.sample_ids[at]);
      lengths.insert(lengths.end(), static_cast<std::size_t>(length), batch.lengths[at]);
      for (std::int64_t t = 0; t < length; ++t) positions.push_back(t);
    }
  }
  const std::int64_t cells = batch.rows * batch.length;
  at::Tensor weights;
  if (std::ranges::any_of(batch.weights, [](float weight) { return weight != 1; })) {
    weights = at::tensor(at::ArrayRef<float>(batch.weights), at::kFloat)
                  .repeat_interleave(tensor_of(documents, {std::ssize(documents)}))
                  .view({batch.rows, batch.length})
                  .to(device);
  }
  return {.ids = tensor_of(batch.input_ids, {batch.rows, batch.length}).to(device),
          .labels = tensor_of(batch.labels, {batch.rows, batch.length}).to(device),
          .tokens = {.samples = tensor_of(samples, {cells}).to(device),
                     .positions = tensor_of(positions, {cells}).to(device),
                     .lengths = tensor_of(lengths, {cells}).to(device)},
          .label_weights = weights,
          .documents = batch.packed() ? documents : std::vector<std::int64_t>()};
}

}  // namespace qlora::train
