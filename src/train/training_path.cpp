#include "qlora/train/training_path.h"

#include "qlora/base/log.h"
#include "qlora/models/adapters.h"
#include "qlora/optim/adamw.h"
#include "qlora/tensor/device.h"

#include <algorithm>

namespace qlora::train {
namespace {

// Graphs, and code of kernels and libraries that a run loads after its model.
constexpr std::int64_t kLaterCode = std::int64_t{64} << 20;

std::int64_t resident_optimizer_bytes(models::CausalLM& model, Optim optim) {
  const bool paged = optim == Optim::PagedAdamw8bit || optim == Optim::PagedAdamw32bit;
  const std::int64_t all = optimizer_bytes(optim, models::count_parameters(model).trainable);
  return paged ? std::min(all, optim::kPagedDeviceBytes) : all;
}

models::FusedOptions options_for(const TrainingConfig& config, const LargestBatch& largest) {
  return {.rows = config.per_device_train_batch_size,
          .length = largest.row_tokens,
          .documents = config.per_device_train_batch_size * largest.row_documents,
          .seed = static_cast<std::uint64_t>(config.seed),
          .offload = config.activation_offloading,
          .deterministic_attention = config.deterministic,
          .fixed_products = config.deterministic};
}

std::string describe(const fused::MemoryChoice& choice) {
  const auto count = [&](fused::Recompute mode) {
    return std::count(choice.modes.begin(), choice.modes.end(), mode);
  };
  return fmt::format(
      "the fused path trains: {} layers keep everything, {} recompute all but attention, {} "
      "recompute all; their inputs wait on the {}",
      count(fused::Recompute::None), count(fused::Recompute::Smart), count(fused::Recompute::Full),
      choice.offload ? "host" : "GPU");
}

std::vector<MemoryItem> items(const models::FusedMemory& memory, std::int64_t weights,
                              std::int64_t optimizer, std::int64_t code) {
  return {{"weights, adapters included", weights},
          {"their gradients and copies", memory.gradients_and_copies},
          {"optimizer state", optimizer},
          {"activations kept", memory.kept},
          {"one block and the loss", memory.at_work},
          {"matrix products, attention", memory.products + memory.attention},
          {"code and graphs", code}};
}

}  // namespace

TrainingPath choose_training_path(models::CausalLM& model, const TrainingConfig& config,
                                  const LargestBatch& largest) {
  if (!config.fused || !model.device().is_cuda()) return {};
  models::FusedOptions options = options_for(config, largest);
  auto problem = models::fused_path_problem(model, options);
  if (config.neftune_noise_alpha.value_or(0) > 0) problem = "training.neftune_noise_alpha is set";
  if (problem) {
    log::info("the plain path trains: {}", *problem);
    return {};
  }
  tensor::release_cached_memory(model.device());
  const std::int64_t weights = tensor::tensor_memory(model.device());
  const std::int64_t code = tensor::program_memory(model.device()) - weights + kLaterCode;
  const std::int64_t optimizer = resident_optimizer_bytes(model, config.optim);
  options.memory =
      tensor::available_memory(model.device(), config.memory_limit) - optimizer - kLaterCode;
  TrainingPath path{
      std::make_unique<models::FusedLlama>(dynamic_cast<models::Llama&>(model), options), {}};
  path.memory = items(path.fused->memory(), weights, optimizer, code);
  log::info("{}\n{}", describe(path.fused->choice()), memory_table(path.memory));
  return path;
}

}  // namespace qlora::train
