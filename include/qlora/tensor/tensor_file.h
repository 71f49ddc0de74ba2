#pragma once
// Named tensors to and from one safetensors file.

#include "qlora/tensor/parameter.h"

#include <filesystem>
#include <vector>

namespace qlora::tensor {

// From any device; the file appears only when complete. Throws Error.
void write_tensors(const std::filesystem::path& file, const std::vector<Parameter>& tensors);

// On the CPU. Throws Error.
std::vector<Parameter> read_tensors(const std::filesystem::path& file);

}  // namespace qlora::tensor
