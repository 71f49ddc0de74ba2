#pragma once
// Training a Llama by the fused path: the same mathematics as Llama under autograd, in static
// memory and CUDA graphs.

#include "qlora/fused/memory_plan.h"
#include "qlora/models/llama.h"
#include "qlora/tensor/parameter.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace qlora::models {

// Rows of one length, each of one document or of several one behind another.
struct TokenRows {
  std::int64_t rows = 0;
  std::int64_t length = 0;
  std::span<const std::int64_t> ids;  // [rows, length]
  // [rows, length], not shifted, -100 where not learnt, as each document's first token
  std::span<const std::int64_t> labels;
  // Tokens of the documents, row by row; pads count with the last of their row.
  std::span<const std::int64_t> documents;
  std::span<const std::int64_t> names;  // [documents] kernels::sample_name, read for dropout alone
};

struct FusedOptions {
  std::int64_t rows = 1;       // most of a batch
  std::int64_t length = 1;     // most tokens of one
  std::int64_t documents = 0;  // most of a batch, rows that it lacks included; 0: one a row
  std::uint64_t seed = 0;      // of dropout
  std::int64_t memory = 0;     // bytes that the path may take
  // Nothing: what is fastest of all that fits into the memory.
  std::optional<fused::MemoryChoice> choice = {};
  // Layers' inputs wait for backward in host memory; nothing: where that spares recomputing
  // attention, or nothing else fits.
  std::optional<bool> offload = {};
  // Both true: the same bits in every run, whatever the memory plan.
  bool deterministic_attention = false;
  bool fixed_products = false;  // algorithms of matrix products are not chosen by their speed
  bool graphs = true;           // false: launches one by one, for debuggers
};

// Bytes of device memory that the path takes beside the model.
struct FusedMemory {
  std::int64_t held = 0;       // gradients and copies of adapters, inputs, tables
  std::int64_t kept = 0;       // by layers, from forward to backward
  std::int64_t at_work = 0;    // in turn by layers and the loss
  std::int64_t products = 0;   // workspace of matrix products
  std::int64_t attention = 0;  // what the attention engine takes from LibTorch
};

// Why the fused path cannot train this model on its device, or nothing.
std::optional<std::string> fused_path_problem(CausalLM& model, const FusedOptions& options);

class FusedLlama {
 public:
  // `model` has its adapters and outlives this object. Throws Error where fused_path_problem has
  // one or the memory does not suffice.
  FusedLlama(Llama& model, const FusedOptions& options);
  ~FusedLlama();
  FusedLlama(const FusedLlama&) = delete;
  FusedLlama& operator=(const FusedLlama&) = delete;

  // The copies of the adapters that it computes with: whoever updates the parameters keeps them.
  std::vector<tensor::CopyTarget> copies() const;
  // Queues forward and backward of a batch that FusedOptions has room for. The parameters'
  // gradients, zero when this object is made, grow by those of scale · (sum of the batch's losses),
  // and loss_sum by that sum.
  void accumulate(const TokenRows& batch, double scale);
  // float64 [1] on the device, zero at first; to be set to zero between updates.
  const at::Tensor& loss_sum() const;

  // How time was traded for memory.
  fused::MemoryChoice choice() const;
  FusedMemory memory() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace qlora::models
