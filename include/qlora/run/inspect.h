#pragma once
// What is in a file or a directory: tensors, sizes, quantization, adapter, memory when loaded.

#include "qlora/base/json.h"

#include <filesystem>
#include <string>

namespace qlora::run {

// A safetensors or GGUF file, a model directory, an adapter or a checkpoint. The value has `kind`
// and `path`; `tensors`: [{name, type, shape, bytes}, ...], `tensor_count` and `bytes`; and, where
// they apply, `metadata`, `model` (structure and parameters), `memory` (bytes of the weights when
// loaded in each way), `quantization`, `adapter`, `training_base`, `trainer_state`. Throws Error.
Json inspect(const std::filesystem::path& path);

// The same for people.
std::string describe(const Json& facts);

}  // namespace qlora::run
