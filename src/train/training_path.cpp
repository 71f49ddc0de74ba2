#include "qlora/train/training_path.h"

#include "qlora/base/log.h"
#include "qlora/models/adapters.h"
#include "qlora/tensor/device.h"

namespace qlora::train {
namespace {

// What a step holds for the trained parameters besides themselves: 16-bit copies, gradients,
// optimizer state, and a margin for evaluation and the libraries' own.
std::int64_t adapter_bytes(models::CausalLM& model, const TrainingConfig& config) {
  constexpr std::int64_t kMargin = std::int64_t{128} << 20;
  const bool eight_bit = config.optim == Optim::Adamw8bit || config.optim == Optim::PagedAdamw8bit;
  const std::int64_t each = 2 + 4 + (eight_bit ? 3 : 8);
  return kMargin + models::count_parameters(model).trainable * each;
}

}  // namespace

std::unique_ptr<models::FusedLlama> choose_training_path(models::CausalLM& model,
                                                         const TrainingConfig& config,
                                                         std::int64_t longest) {
  if (!config.fused || !model.device().is_cuda()) return nullptr;
  models::FusedOptions options{.rows = config.per_device_train_batch_size, .length = longest};
  auto problem = models::fused_path_problem(model, options);
  if (config.neftune_noise_alpha.value_or(0) > 0) problem = "training.neftune_noise_alpha is set";
  if (problem) {
    log::info("the plain path trains: {}", *problem);
    return nullptr;
  }
  options.memory =
      tensor::available_memory(model.device(), config.memory_limit) - adapter_bytes(model, config);
  auto fused = std::make_unique<models::FusedLlama>(dynamic_cast<models::Llama&>(model), options);
  log::info("{}", fused->describe());
  return fused;
}

}  // namespace qlora::train
