#pragma once
// LoRA on a whole model: where adapters go, what is trained, and how it is stored.

#include "qlora/io/peft.h"
#include "qlora/models/causal_lm.h"
#include "qlora/nn/lora_config.h"
#include "qlora/tensor/parameter.h"

#include <filesystem>
#include <string>
#include <vector>

namespace qlora::models {

// PEFT's description of the settings.
io::AdapterConfig to_adapter_config(const nn::LoraConfig& config, const std::string& base_model);

// Gives every targeted linear an adapter drawn from `seed` and makes modules_to_save trainable.
// Throws Error where a pattern matches nothing (lists the module names there are).
void attach_lora(CausalLM& model, const io::AdapterConfig& config, DType dtype, std::uint64_t seed);

// Every trained tensor under its name in adapter_model.safetensors, in the order of the forward
// pass.
std::vector<tensor::Parameter> trainable_parameters(CausalLM& model);

struct ParameterCount {
  std::int64_t trainable = 0;
  std::int64_t total = 0;
  std::int64_t weight_bytes = 0;  // of weights on the model's device, quantized ones packed
};
ParameterCount count_parameters(CausalLM& model);

// Writes adapter_config.json and adapter_model.safetensors into an existing directory.
void save_adapter(CausalLM& model, io::AdapterConfig config,
                  const std::filesystem::path& directory);

// Attaches the adapter that lies in `directory` and fills in its weights. Throws Error for a
// missing, unexpected or misshaped tensor.
io::AdapterConfig load_adapter(CausalLM& model, const std::filesystem::path& directory,
                               DType dtype = DType::Float32);

// Reads the weights only, into parameters that are already there (resume).
void load_adapter_weights(CausalLM& model, const std::filesystem::path& directory);

}  // namespace qlora::models
