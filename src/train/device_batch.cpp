#include "qlora/train/device_batch.h"

#include "qlora/base/error.h"

namespace qlora::train {
namespace {

at::Tensor tensor_of(const std::vector<std::int64_t>& values, at::IntArrayRef shape) {
  at::Tensor tensor = at::empty(shape, at::kLong);
  QLORA_ASSERT(tensor.numel() == static_cast<std::int64_t>(values.size()));
  std::copy(values.begin(), values.end(), tensor.mutable_data_ptr<std::int64_t>());
  return tensor;
}

}  // namespace

DeviceBatch to_device(const data::Batch& batch, std::int64_t epoch, c10::Device device) {
  std::vector<std::int64_t> names;
  for (const std::int64_t id : batch.sample_ids) names.push_back(kernels::sample_name(id, epoch));
  const at::Tensor samples = tensor_of(names, {batch.rows});
  return {
      .ids = tensor_of(batch.input_ids, {batch.rows, batch.length}).to(device),
      .labels = tensor_of(batch.labels, {batch.rows, batch.length}).to(device),
      .tokens = {.samples = samples.repeat_interleave(batch.length).to(device),
                 .positions = at::arange(batch.length, at::kLong).repeat(batch.rows).to(device)}};
}

}  // namespace qlora::train
