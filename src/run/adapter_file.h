#pragma once
// A stored adapter, checked against the model that it is for; its tensors stay in the mapped file.

#include "qlora/io/peft.h"
#include "qlora/io/safetensors.h"
#include "qlora/run/model_tensors.h"

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <optional>
#include <vector>

namespace qlora::run {

class AdapterFile {
 public:
  // Throws Error for a tensor that is missing, that the model has no place for, or whose shape does
  // not fit: the rules of models::load_adapter.
  AdapterFile(const std::filesystem::path& directory, const std::vector<ModelTensor>& model);

  // scaling · B · A of a linear layer's weight, float32 [out, in]; empty where it has no adapter.
  std::optional<at::Tensor> delta(const ModelTensor& tensor) const;
  // What takes the tensor's place (modules_to_save), float32; empty where nothing does.
  std::optional<at::Tensor> replacement(const ModelTensor& tensor) const;

 private:
  bool has_adapter(const ModelTensor& tensor) const;
  void expect_tensor(const std::string& name, const std::vector<std::int64_t>& shape) const;
  at::Tensor read(const std::string& name) const;

  io::AdapterConfig config_;
  io::SafetensorsFile file_;
};

}  // namespace qlora::run
