#pragma once
// AdamW over all trained tensors, with 8-bit or 32-bit state, resident or paged.

#include "qlora/kernels/adamw.h"
#include "qlora/optim/state_pages.h"
#include "qlora/tensor/parameter.h"

#include <cstdint>
#include <vector>

namespace qlora::optim {

struct AdamWOptions {
  bool eight_bit = true;
  bool paged = false;  // on a GPU: state lives in pinned host memory; no effect on the CPU
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0;
};

// Tensors smaller than this keep 32-bit state (bitsandbytes' min_8bit_size).
inline constexpr std::int64_t kMin8bitElements = 4096;

class AdamW {
 public:
  AdamW(std::vector<tensor::Parameter> parameters, const AdamWOptions& options);

  // L2 norm over all gradients, each multiplied by `scale`. Fixed order, double arithmetic.
  double gradient_norm(double scale) const;

  // One update from the accumulated gradients, each multiplied by `gradient_scale` (clipping and
  // loss unscaling). A parameter without a gradient is left alone.
  void step(double learning_rate, double gradient_scale);

  void zero_gradients();

  // Updates done so far.
  std::int64_t steps() const { return steps_; }
  // Bytes of state, wherever it lives.
  std::int64_t state_bytes() const;

  // State tensors on the host, for checkpoints: "NAME.m" and "NAME.v" (float32, or uint8 codes with
  // "NAME.m_absmax" and "NAME.v_absmax").
  std::vector<tensor::Parameter> state() const;
  // The inverse. Throws Error for a missing or misshaped one; `where` names the file.
  void load_state(const std::vector<tensor::Parameter>& stored, std::int64_t steps,
                  const std::string& where);

 private:
  struct Slot {
    tensor::Parameter parameter;
    MomentState state;
  };
  kernels::AdamWStep step_arguments(const Slot& slot, double learning_rate,
                                    double gradient_scale) const;

  std::vector<Slot> slots_;
  AdamWOptions options_;
  StatePager pager_;
  std::int64_t steps_ = 0;
};

}  // namespace qlora::optim
