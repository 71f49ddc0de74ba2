#pragma once
// Loss scaling for float16: gradients below float16's range survive when the loss is multiplied
// first and the gradients are divided afterwards. Constants: torch.amp.GradScaler.

#include <cstdint>

namespace qlora::train {

class LossScaler {
 public:
  // A scaler that is off keeps its scale at 1 and never skips.
  explicit LossScaler(bool enabled) : enabled_(enabled), scale_(enabled ? 65536.0 : 1.0) {}

  double scale() const { return scale_; }
  std::int64_t good_steps() const { return good_steps_; }

  // Tells whether the update may be done, and adapts: a gradient that is not finite halves the
  // scale and skips the update; 2000 good updates in a row double it.
  bool accept(bool gradients_finite);

  void restore(double scale, std::int64_t good_steps);

 private:
  bool enabled_;
  double scale_;
  std::int64_t good_steps_ = 0;
};

}  // namespace qlora::train
