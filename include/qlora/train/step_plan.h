#pragma once
// Which micro-batches each update takes: transformers' step arithmetic as pure functions.

#include <cstdint>

namespace qlora::train {

// The micro-batches of one update: `count` batches of epoch `epoch`, from `first_batch` on.
struct UpdateWindow {
  std::int64_t epoch = 0;
  std::int64_t first_batch = 0;
  std::int64_t count = 0;
};

// An epoch's last update takes what is left, so every batch is used once an epoch.
class StepPlan {
 public:
  // max_steps > 0 wins over `epochs`, which may be fractional.
  StepPlan(std::int64_t batches_per_epoch, std::int64_t accumulation, double epochs,
           std::int64_t max_steps);

  std::int64_t updates_per_epoch() const { return updates_per_epoch_; }
  std::int64_t max_steps() const { return max_steps_; }
  // The batches of update `step`, counted from 0 over the whole run.
  UpdateWindow window(std::int64_t step) const;
  // Epochs completed after `steps` updates.
  double epochs_after(std::int64_t steps) const;
  // Whether update `step` is the last of its epoch.
  bool ends_epoch(std::int64_t step) const;

 private:
  std::int64_t batches_per_epoch_;
  std::int64_t accumulation_;
  std::int64_t updates_per_epoch_;
  std::int64_t max_steps_;
};

}  // namespace qlora::train
