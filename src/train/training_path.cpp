#include "qlora/train/training_path.h"

#include "qlora/base/log.h"
#include "qlora/models/adapters.h"
#include "qlora/optim/adamw.h"
#include "qlora/tensor/device.h"

#include <algorithm>
#include <initializer_list>
#include <utility>

namespace qlora::train {
namespace {

// Graphs, and code of kernels and libraries that a run loads after its model.
constexpr std::int64_t kLaterCode = std::int64_t{64} << 20;

std::int64_t resident_optimizer_bytes(models::CausalLM& model, Optim optim) {
  const bool paged = optim == Optim::PagedAdamw8bit || optim == Optim::PagedAdamw32bit;
  if (paged) return optim::kPagedDeviceBytes;
  return optimizer_bytes(optim, models::count_parameters(model).trainable);
}

models::FusedOptions options_for(const TrainingConfig& config, const data::LargestBatch& largest) {
  return {.rows = largest.rows,
          .length = largest.length,
          .documents = largest.samples,
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

// What is on the GPU beside what the fused path itself takes.
struct Others {
  std::int64_t weights, optimizer, evaluation, code;
};

std::vector<MemoryItem> items(const models::FusedMemory& memory, const Others& others) {
  return {{"weights, adapters included", others.weights},
          {"gradients, copies, inputs", memory.held},
          {"optimizer state", others.optimizer},
          {"activations kept", memory.kept},
          {"one block and the loss", memory.at_work},
          {"matrix products, attention", memory.products + memory.attention},
          {"a batch of the evaluation", others.evaluation},
          {"code and graphs", others.code}};
}

// Why the plain path trains, or nothing.
std::optional<std::string> plain_reason(models::CausalLM& model, const RunConfig& run,
                                        const models::FusedOptions& options) {
  if (!run.training.fused) return "training.fused is false";
  if (run.data.weight_column) return "data.weight_column is set";
  if (run.training.neftune_noise_alpha.value_or(0) > 0) {
    return "training.neftune_noise_alpha is set";
  }
  return models::fused_path_problem(model, options);
}

// Names of training's settings and whether they are set, of those that the path in use passes over.
void say_ignored(std::initializer_list<std::pair<const char*, bool>> settings) {
  for (const auto& [name, set] : settings) {
    if (set) log::info("training.{} has no effect on it", name);
  }
}

}  // namespace

TrainingPath choose_training_path(models::CausalLM& model, const RunConfig& run,
                                  const data::LargestBatch& train,
                                  const data::LargestBatch& validation) {
  const TrainingConfig& config = run.training;
  models::FusedOptions options = options_for(config, train);
  if (const auto reason = plain_reason(model, run, options)) {
    log::info("the plain path trains: {}", *reason);
    say_ignored({{"deterministic", config.deterministic},
                 {"memory_limit", config.memory_limit.has_value()},
                 {"activation_offloading", config.activation_offloading.value_or(false)}});
    return {};
  }
  tensor::release_cached_memory(model.device());
  const std::int64_t weights = tensor::tensor_memory(model.device());
  const Others others{
      .weights = weights,
      .optimizer = resident_optimizer_bytes(model, config.optim),
      .evaluation = evaluation_bytes(model.config(), validation, config.activation_dtype()),
      .code = tensor::program_memory(model.device()) - weights + kLaterCode};
  options.memory = tensor::available_memory(model.device(), config.memory_limit) -
                   others.optimizer - others.evaluation - kLaterCode;
  TrainingPath path{
      std::make_unique<models::FusedLlama>(dynamic_cast<models::Llama&>(model), options), {}};
  path.memory = items(path.fused->memory(), others);
  log::info("{}\n{}", describe(path.fused->choice()), memory_table(path.memory));
  say_ignored({{"gradient_checkpointing", config.gradient_checkpointing}});
  return path;
}

}  // namespace qlora::train
