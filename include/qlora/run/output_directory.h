#pragma once
// Where programs that write a whole model put it.

#include "qlora/io/bnb.h"
#include "qlora/io/model_config.h"

#include <filesystem>
#include <optional>
#include <vector>

namespace qlora::run {

// The path in the form that AtomicDirectory wants. Throws Error where something is there already,
// unless it is an empty folder or, with `overwrite`, a model directory that holds none of `inputs`.
std::filesystem::path check_output(const std::filesystem::path& output, bool overwrite,
                                   const std::vector<std::filesystem::path>& inputs);

// The tokenizer and generation_config.json of a model into an existing directory; a model without
// a tokenizer is worth a warning, not an error.
void copy_tokenizer(const std::filesystem::path& model, const std::filesystem::path& directory);

// config.json of a model whose weights are now of `dtype` and, maybe, quantized.
void write_config(io::ModelConfig config, DType dtype,
                  const std::optional<io::BnbQuantizationConfig>& quantization,
                  const std::filesystem::path& directory);

}  // namespace qlora::run
