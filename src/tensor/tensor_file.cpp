#include "qlora/tensor/tensor_file.h"

#include "qlora/io/safetensors.h"
#include "qlora/tensor/bridge.h"

namespace qlora::tensor {

void write_tensors(const std::filesystem::path& file, const std::vector<Parameter>& tensors) {
  std::vector<io::TensorSpec> specs;
  for (const auto& t : tensors) {
    specs.push_back({t.name, dtype_of(t.value), t.value.sizes().vec()});
  }
  io::SafetensorsWriter writer(file, specs);
  for (const auto& t : tensors) {
    const at::Tensor host = t.value.detach().cpu().contiguous();
    writer.write(t.name, bytes_of(host));
  }
  writer.commit();
}

std::vector<Parameter> read_tensors(const std::filesystem::path& file) {
  const io::SafetensorsFile stored(file);
  std::vector<Parameter> result;
  for (const auto& view : stored.tensors()) {
    result.push_back({view.name, to_tensor(view), false});
  }
  return result;
}

}  // namespace qlora::tensor
