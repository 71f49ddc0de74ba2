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

Documents documents_of(const data::Batch& batch, std::int64_t epoch) {
  Documents documents;
  std::size_t sample = 0;
  for (const std::int64_t count : batch.samples_in_row) {
    std::int64_t left = batch.length;
    for (std::int64_t k = 0; k < count; ++k, ++sample) {
      const std::int64_t length = k + 1 < count ? batch.lengths[sample] : left;
      documents.lengths.push_back(length);
      documents.names.push_back(kernels::sample_name(batch.sample_ids[sample], epoch));
      left -= length;
    }
  }
  return documents;
}

DeviceBatch to_device(const data::Batch& batch, std::int64_t epoch, c10::Device device) {
  const Documents documents = documents_of(batch, epoch);
  std::vector<std::int64_t> samples, positions, lengths;
  for (std::size_t i = 0; i < documents.lengths.size(); ++i) {
    const std::int64_t cells = documents.lengths[i];
    samples.insert(samples.end(), static_cast<std::size_t>(cells), documents.names[i]);
    lengths.insert(lengths.end(), static_cast<std::size_t>(cells), batch.lengths[i]);
    for (std::int64_t t = 0; t < cells; ++t) positions.push_back(t);
  }
  const std::int64_t cells = batch.rows * batch.length;
  at::Tensor weights;
  if (std::ranges::any_of(batch.weights, [](float weight) { return weight != 1; })) {
    weights = at::tensor(at::ArrayRef<float>(batch.weights), at::kFloat)
                  .repeat_interleave(tensor_of(documents.lengths, {std::ssize(documents.lengths)}))
                  .view({batch.rows, batch.length})
                  .to(device);
  }
  return {.ids = tensor_of(batch.input_ids, {batch.rows, batch.length}).to(device),
          .labels = tensor_of(batch.labels, {batch.rows, batch.length}).to(device),
          .tokens = {.samples = tensor_of(samples, {cells}).to(device),
                     .positions = tensor_of(positions, {cells}).to(device),
                     .lengths = tensor_of(lengths, {cells}).to(device)},
          .label_weights = weights,
          .documents = batch.packed() ? documents.lengths : std::vector<std::int64_t>()};
}

}  // namespace qlora::train
