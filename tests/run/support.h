#pragma once
// Small models and adapters for the tests of this module.

#include "qlora/io/peft.h"
#include "qlora/models/causal_lm.h"
#include "qlora/models/load.h"
#include "qlora/nn/lora_config.h"
#include "qlora/tensor/quantization_config.h"
#include "support/test_data.h"

#include <filesystem>
#include <string>
#include <vector>

namespace qlora::run::test {

using qlora::test::fresh_folder;
using qlora::test::golden_path;

// tests/data/tiny/NAME
std::filesystem::path tiny(const std::string& name);

tensor::QuantizationConfig four_bits(kernels::QuantType type, bool double_quant);

std::unique_ptr<models::CausalLM> load(const std::filesystem::path& path,
                                       const tensor::QuantizationConfig& quantization = {});

// Logits [1, S, vocabulary] of the ids 1, 2, ... S, without a cache.
at::Tensor logits_of(models::CausalLM& model, std::int64_t length = 12);

// A LoRA configuration whose A and B are both drawn, so that it changes what the model says.
nn::LoraConfig random_lora();

// Writes an adapter for `base` into `directory`, which is made.
void make_adapter(const std::filesystem::path& base, const nn::LoraConfig& config,
                  const std::filesystem::path& directory);

// The greatest difference, relative to the greatest magnitude of `expected`.
double relative_difference(const at::Tensor& actual, const at::Tensor& expected);

// Names in a folder, sorted.
std::vector<std::string> names_in(const std::filesystem::path& folder);

}  // namespace qlora::run::test
