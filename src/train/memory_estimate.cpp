#include "qlora/train/memory_estimate.h"

#include "qlora/base/error.h"
#include "qlora/base/text_util.h"

#include <algorithm>

namespace qlora::train {
namespace {

// Rows of logits that the loss works on at a time (tensor/linear_cross_entropy.cpp): float32
// logits and one 16-bit or float32 copy.
constexpr std::int64_t kLogitRows = 256;

std::int64_t logit_bytes(const io::ModelConfig& model, std::int64_t tokens, std::int64_t element) {
  return std::min(tokens, kLogitRows) * model.vocab_size * (4 + element);
}

// Elements that autograd keeps for one token of one decoder block: inputs and outputs of the norms
// and residual sums (8 d), q, k, v before and after the rotation, the attention's output twice, and
// gate, up, silu(gate) and their product.
std::int64_t block_elements(const io::ModelConfig& m) {
  const std::int64_t q = m.num_attention_heads * m.head_dim;
  const std::int64_t kv = m.num_key_value_heads * m.head_dim;
  return 8 * m.hidden_size + 2 * (q + 2 * kv) + 2 * q + 4 * m.intermediate_size;
}

}  // namespace

std::int64_t optimizer_bytes(Optim optim, std::int64_t trainable) {
  const bool eight_bit = optim == Optim::Adamw8bit || optim == Optim::PagedAdamw8bit;
  // 8 bit: two codes an element and two float32 scales a block of 256.
  return eight_bit ? trainable * 2 + trainable / 32 : trainable * 8;
}

std::vector<MemoryItem> estimate_memory(const RunConfig& config, const io::ModelConfig& model,
                                        const models::ParameterCount& parameters,
                                        std::int64_t longest_sample) {
  const auto element = static_cast<std::int64_t>(size_of(config.training.activation_dtype()));
  const std::int64_t tokens = config.training.per_device_train_batch_size * longest_sample;
  const std::int64_t block = tokens * block_elements(model) * element;
  const std::int64_t kept = config.training.gradient_checkpointing
                                ? model.num_hidden_layers * tokens * model.hidden_size * element
                                : model.num_hidden_layers * block;
  const auto adapter_bytes =
      parameters.trainable * static_cast<std::int64_t>(size_of(config.lora.dtype));
  const std::int64_t scratch = model.hidden_size * model.intermediate_size * element;
  return {{"weights, adapters included", parameters.weight_bytes},
          {"gradients", adapter_bytes},
          {"optimizer state", optimizer_bytes(config.training.optim, parameters.trainable)},
          {"activations kept", kept},
          {"one block at work", block + scratch},
          {"logits of a chunk", logit_bytes(model, tokens, element)}};
}

std::int64_t evaluation_bytes(const io::ModelConfig& model, const data::LargestBatch& batch,
                              DType activations) {
  const std::int64_t tokens = batch.rows * batch.length;
  if (tokens == 0) return 0;
  const auto element = static_cast<std::int64_t>(size_of(activations));
  // Of a block without autograd: residual sums and the norm's output, with q, k, v before and after
  // the rotation and the output, or with gate, up, silu(gate) and their product.
  const std::int64_t q = model.num_attention_heads * model.head_dim;
  const std::int64_t kv = model.num_key_value_heads * model.head_dim;
  const std::int64_t widest = std::max(3 * q + 4 * kv, 4 * model.intermediate_size);
  const std::int64_t weight = model.hidden_size * model.intermediate_size;
  return (tokens * (3 * model.hidden_size + widest) + weight) * element +
         logit_bytes(model, tokens, element);
}

std::int64_t memory_sum(const std::vector<MemoryItem>& items) {
  std::int64_t sum = 0;
  for (const MemoryItem& item : items) sum += item.bytes;
  return sum;
}

std::string memory_table(const std::vector<MemoryItem>& items) {
  std::string table = "memory estimate\n";
  for (const MemoryItem& item : items) {
    table += fmt::format("  {:<28}{:>12}\n", item.name, human_bytes(item.bytes));
  }
  return table + fmt::format("  {:<28}{:>12}\n", "sum", human_bytes(memory_sum(items)));
}

}  // namespace qlora::train
