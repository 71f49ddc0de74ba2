#include "run/adapter_file.h"

#include "qlora/base/error.h"
#include "qlora/tensor/bridge.h"

#include <ATen/ops/matmul.h>

#include <set>

namespace qlora::run {
namespace {

std::string lora_a(const ModelTensor& tensor) {
  return io::adapter_tensor_name({tensor.module, io::AdapterPart::LoraA, ""});
}

std::string lora_b(const ModelTensor& tensor) {
  return io::adapter_tensor_name({tensor.module, io::AdapterPart::LoraB, ""});
}

std::string saved(const ModelTensor& tensor) {
  return io::adapter_tensor_name({tensor.module, io::AdapterPart::Saved, tensor.parameter});
}

}  // namespace

AdapterFile::AdapterFile(const std::filesystem::path& directory,
                         const std::vector<ModelTensor>& model)
    : config_(io::read_adapter_config(directory)), file_(directory / io::kAdapterWeightsName) {
  std::set<std::string> known;
  for (const ModelTensor& tensor : model) {
    if (has_adapter(tensor)) {
      const std::int64_t rank = config_.rank_of(tensor.module);
      expect_tensor(lora_a(tensor), {rank, tensor.shape[1]});
      expect_tensor(lora_b(tensor), {tensor.shape[0], rank});
      known.insert({lora_a(tensor), lora_b(tensor)});
    }
    if (io::matches(config_.modules_to_save, tensor.module)) {
      expect_tensor(saved(tensor), tensor.shape);
      known.insert(saved(tensor));
    }
  }
  for (const io::TensorView& stored : file_.tensors()) {
    if (!known.contains(stored.name)) {
      fail("{}: tensor '{}' has no place in this model", file_.path().string(), stored.name);
    }
  }
  if (known.empty()) {
    fail("{}: the adapter targets none of this model's layers", file_.path().string());
  }
}

bool AdapterFile::has_adapter(const ModelTensor& tensor) const {
  return tensor.is_linear_weight() &&
         io::is_target(config_, tensor.module,
                       /*all_linear_member=*/tensor.role != io::Role::LmHead);
}

void AdapterFile::expect_tensor(const std::string& name,
                                const std::vector<std::int64_t>& shape) const {
  const io::TensorView* stored = file_.find(name);
  if (stored == nullptr) {
    fail("{}: tensor '{}' is missing; the adapter does not fit this model or its own settings",
         file_.path().string(), name);
  }
  if (stored->shape != shape) {
    fail("{}: tensor '{}' has shape {}, expected {}", file_.path().string(), name,
         io::shape_text(stored->shape), io::shape_text(shape));
  }
}

at::Tensor AdapterFile::read(const std::string& name) const {
  return tensor::to_tensor(*file_.find(name)).to(at::kFloat);
}

std::optional<at::Tensor> AdapterFile::delta(const ModelTensor& tensor) const {
  if (!has_adapter(tensor)) return std::nullopt;
  return at::matmul(read(lora_b(tensor)), read(lora_a(tensor))) * config_.scaling_of(tensor.module);
}

std::optional<at::Tensor> AdapterFile::replacement(const ModelTensor& tensor) const {
  if (file_.find(saved(tensor)) == nullptr) return std::nullopt;
  return read(saved(tensor));
}

}  // namespace qlora::run
