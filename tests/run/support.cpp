#include "run/support.h"

#include "qlora/base/directory.h"
#include "qlora/models/adapters.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>

#include <algorithm>

namespace qlora::run::test {

std::filesystem::path tiny(const std::string& name) { return golden_path("tiny/" + name); }

tensor::QuantizationConfig four_bits(kernels::QuantType type, bool double_quant) {
  tensor::QuantizationConfig config;
  config.load_in_4bit = true;
  config.bnb_4bit_quant_type = type;
  config.bnb_4bit_use_double_quant = double_quant;
  return config;
}

std::unique_ptr<models::CausalLM> load(const std::filesystem::path& path,
                                       const tensor::QuantizationConfig& quantization) {
  return models::load(path, {.quantization = quantization, .dtype = DType::Float32});
}

at::Tensor logits_of(models::CausalLM& model, std::int64_t length) {
  const at::NoGradGuard no_grad;
  const nn::ForwardContext context;
  const at::Tensor ids = at::arange(1, length + 1, at::kLong).unsqueeze(0);
  return model.logits(model.hidden_states(ids, context), context);
}

nn::LoraConfig random_lora() {
  nn::LoraConfig config;
  config.r = 4;
  config.init_lora_weights = nn::LoraInit::Random;
  return config;
}

void make_adapter(const std::filesystem::path& base, const nn::LoraConfig& config,
                  const std::filesystem::path& directory) {
  const auto model = load(base);
  const auto adapter = models::to_adapter_config(config, base.string());
  models::attach_lora(*model, adapter, DType::Float32, /*seed=*/3);
  std::filesystem::create_directories(directory);
  models::save_adapter(*model, adapter, directory);
}

double relative_difference(const at::Tensor& actual, const at::Tensor& expected) {
  return ((actual - expected).abs().max() / expected.abs().max()).item<double>();
}

std::vector<std::string> names_in(const std::filesystem::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : directory_entries(folder)) names.push_back(entry.filename().string());
  return names;
}

}  // namespace qlora::run::test
