#pragma once
// Training a Llama by the fused path: the same mathematics as Llama under autograd, in static
// memory and CUDA graphs.

#include "qlora/fused/memory_plan.h"
#include "qlora/models/llama.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

namespace qlora::models {

// Documents side by side, each padded to the same length.
struct TokenRows {
  std::int64_t rows = 0;
  std::int64_t length = 0;
  std::span<const std::int64_t> ids;     // [rows, length]
  std::span<const std::int64_t> labels;  // [rows, length], not shifted, -100 where not learnt
};

struct FusedOptions {
  std::int64_t rows = 1;    // most documents of a batch
  std::int64_t length = 1;  // most tokens of one
  std::int64_t memory = 0;  // bytes that the path may take
  // Of every layer; nothing: each layer keeps what fits into the memory.
  std::optional<fused::Recompute> recompute = {};
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

  // Before an update's first batch: gradients are zero, and the adapters' values those of the
  // parameters.
  void begin_update();
  // Queues forward and backward; the parameters' gradients grow by those of scale · (sum of the
  // batch's losses).
  void accumulate(const TokenRows& batch, double scale);
  // Sum of the losses since begin_update. Waits for the device.
  double loss() const;

  // How memory is laid out, for a person.
  std::string describe() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace qlora::models
