#pragma once
// Where everything that a micro-step works on lies in one block of device memory, decided from
// sizes and lifetimes before anything is allocated.

#include "qlora/fused/block.h"

#include <optional>
#include <string>
#include <vector>

namespace qlora::fused {

// The moments of a micro-step. Forward runs kForwardQkv..kForwardDown for each layer, backward
// kAgainQkv..kBackQkv (kAgain*: recompute).
enum Moment : unsigned {
  kForwardQkv,
  kForwardAttention,
  kForwardOut,
  kForwardGateUp,
  kForwardDown,
  kLoss,
  kAgainQkv,
  kAgainAttention,
  kAgainOut,
  kAgainGateUp,
  kBackDown,
  kBackGateUp,
  kBackOut,
  kBackAttention,
  kBackQkv,
  kMoments
};

// A set of moments, one bit each.
using Lifetime = std::uint32_t;
inline constexpr Lifetime kAlways = (1u << kMoments) - 1;
constexpr Lifetime at(Moment moment) { return 1u << moment; }
// From `first` to `last`, both included.
constexpr Lifetime during(Moment first, Moment last) {
  return ((1u << (last + 1)) - 1) & ~((1u << first) - 1);
}

// A piece of memory whose contents matter during `lifetime` alone.
struct Region {
  std::string name;
  std::int64_t bytes = 0;
  Lifetime lifetime = kAlways;
  std::int64_t offset = 0;  // given by place()
};

// Gives each region an offset (256-byte aligned) such that regions that are ever alive together
// do not overlap; returns the size of the whole.
std::int64_t place(std::vector<Region>& regions);

// What a layer's backward pass computes again instead of having kept it.
enum class Recompute {
  None,
  Smart,  // all but the attention and the down projection
  Full,   // all but the down projection
};

// Sizes that the model alone decides.
struct DecoderShape {
  LayerShape layer;
  std::int64_t layers = 0;
  std::int64_t vocabulary = 0;
  std::array<std::int64_t, kGroups> weight_elements{};  // of the largest augmented weights
};

struct StepShape : DecoderShape {
  std::int64_t tokens = 0;               // of a micro-step
  std::int64_t loss_rows = 0;            // rows of logits at a time
  std::int64_t attention_workspace = 0;  // bytes
};

// How a micro-step trades time for memory.
struct MemoryChoice {
  std::vector<Recompute> modes;  // one for each layer
  bool offload = false;          // the layers' inputs lie on the host (input_offload.h)
  std::int64_t mlp_rows = 0;     // tokens that go through the MLP at a time; 0: all
  // Attention's weights, dequantized for recompute, are there until backward takes them; false:
  // they make room for the MLP and are dequantized once more.
  bool keeps_weights = true;
};

// Memory of the loss, rows at a time.
struct LossSpace {
  void* rows = nullptr;     // [loss_rows, hidden], last layer's output, then its gradient
  void* normed = nullptr;   // [loss_rows, hidden], and its gradient
  float* rstd = nullptr;    // [loss_rows]
  void* logits = nullptr;   // [loss_rows, vocabulary]
  float* losses = nullptr;  // [loss_rows]
};

// Offsets of one plan, as pointers once the block is there.
struct StepMemory {
  std::vector<Activations> layers;
  Workspace space;
  LossSpace loss;
  void* last = nullptr;      // [tokens, hidden], output of the last layer
  void* gradient = nullptr;  // [tokens, gradient_stride]
};

class MemoryPlan {
 public:
  MemoryPlan(const StepShape& shape, MemoryChoice choice);

  std::int64_t bytes() const { return bytes_; }
  const MemoryChoice& choice() const { return choice_; }
  const std::vector<Region>& regions() const { return regions_; }
  // block: bytes() of device memory, 256-byte aligned.
  StepMemory locate(void* block) const;

 private:
  struct Builder;

  StepShape shape_;
  MemoryChoice choice_;
  std::vector<Region> regions_;
  std::int64_t bytes_ = 0;
};

struct PlanLimits {
  std::int64_t budget = 0;           // bytes
  std::optional<bool> offload = {};  // nothing: where that spares recomputing attention,
                                     // or nothing else fits
  bool fixed_tiles = false;          // mlp_rows, on which sums depend, comes from the shape alone
};

// The fastest plan that fits into the budget: the last layers keep the most. Where none does, the
// leanest plan, which is larger than the budget.
MemoryPlan plan_memory(const StepShape& shape, const PlanLimits& limits);

}  // namespace qlora::fused
