#pragma once
// AdamW over all trained tensors at once, with 8-bit or 32-bit state, resident or paged.

#include "qlora/kernels/gradient_norm.h"
#include "qlora/tensor/parameter.h"
#include "qlora/tensor/readback.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

namespace qlora::kernels {
struct AdamWTensor;
}

namespace qlora::optim {

class StatePages;
class UpdateTables;

struct AdamWOptions {
  bool eight_bit = true;
  bool paged = false;  // on a GPU: state lives in pinned host memory; no effect on the CPU
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0;
};

// Tensors smaller than this keep 32-bit state (bitsandbytes' min_8bit_size), which stays resident.
inline constexpr std::int64_t kMin8bitElements = 4096;

// Device memory of paged state, however much of it there is: three windows of both moments.
inline constexpr std::int64_t kPagedDeviceBytes = std::int64_t{12} << 20;

struct StepOptions {
  double gradient_scale = 1;  // multiplies every gradient: 1 / the loss scale
  double max_norm = 0;        // clips to this norm, as torch.nn.utils.clip_grad_norm_; 0: off
};

struct StepOutcome {
  double gradient_norm = 0;  // L2, over all scaled gradients
  bool updated = true;       // false: the norm was not finite, and nothing was changed
};

class AdamW {
 public:
  AdamW(std::vector<tensor::Parameter> parameters, const AdamWOptions& options,
        std::vector<tensor::CopyTarget> copies = {});
  ~AdamW();

  // One update from the accumulated gradients, which become zero, whatever came of it: norm,
  // clipping, parameters, state and copies. A parameter without a gradient is left alone. On a GPU
  // the work is only queued on the current stream, in one launch for the norm and one for all
  // updates (paged: one a page); the call waits at most for the norm of the step before.
  void step(double learning_rate, const StepOptions& options = {});

  // What became of the last step. Waits on a GPU until its norm is known, not for its update.
  StepOutcome outcome() const;

  // Updates done so far; waits as outcome() does.
  std::int64_t steps() const;
  // Bytes of state, wherever it lives.
  std::int64_t state_bytes() const;

  // State tensors on the host, for checkpoints: "NAME.m" and "NAME.v" (float32, or uint8 codes with
  // "NAME.m_absmax" and "NAME.v_absmax").
  std::vector<tensor::Parameter> state() const;
  // The inverse; also refreshes the copies. Throws Error for a missing or misshaped one; `where`
  // names the file.
  void load_state(const std::vector<tensor::Parameter>& stored, std::int64_t steps,
                  const std::string& where);

 private:
  struct Slot;

  bool is_paged(const Slot& slot) const;
  void allocate_moments(bool eight_bit);
  void attach_copies(std::vector<tensor::CopyTarget> copies);
  // Writes the copies from parameters that something else than step() has changed.
  void refresh_copies();
  // The tables of a step: all gradients; with pages then the resident tensors and each page's.
  using Tables = std::vector<std::vector<kernels::AdamWTensor>>;
  Tables tables();
  void add_to_pages(const Slot& slot, Tables& tables) const;
  void queue_updates(double learning_rate);

  std::vector<Slot> slots_;
  AdamWOptions options_;
  c10::Device device_;
  std::unique_ptr<StatePages> pages_;  // null: all state is resident
  std::unique_ptr<UpdateTables> tables_;
  tensor::Readback norm_;  // of one kernels::GradientNorm

  // Until its norm is known, the last step is pending: neither counted nor told of.
  void settle() const;
  kernels::GradientNorm* norm() const;
  mutable bool pending_ = false;
  mutable std::int64_t steps_ = 0;
  mutable StepOutcome outcome_;
};

}  // namespace qlora::optim
