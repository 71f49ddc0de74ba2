#include "qlora/train/step_plan.h"

#include "qlora/base/narrow.h"

#include <algorithm>
#include <cmath>

namespace qlora::train {

StepPlan::StepPlan(std::int64_t batches_per_epoch, std::int64_t accumulation, double epochs,
                   std::int64_t max_steps)
    : batches_per_epoch_(batches_per_epoch),
      accumulation_(accumulation),
      updates_per_epoch_(div_up(batches_per_epoch, accumulation)),
      max_steps_(max_steps) {
  QLORA_ASSERT(batches_per_epoch > 0 && accumulation > 0);
  if (max_steps_ > 0) return;
  const double steps = std::ceil(epochs * static_cast<double>(updates_per_epoch_));
  if (!(steps < 1e15)) fail("training.num_train_epochs: {} epochs never end", epochs);
  max_steps_ = static_cast<std::int64_t>(steps);
}

UpdateWindow StepPlan::window(std::int64_t step) const {
  const std::int64_t first = step % updates_per_epoch_ * accumulation_;
  return {.epoch = step / updates_per_epoch_,
          .first_batch = first,
          .count = std::min(accumulation_, batches_per_epoch_ - first)};
}

double StepPlan::epochs_after(std::int64_t steps) const {
  if (steps == 0) return 0;
  const UpdateWindow last = window(steps - 1);
  return static_cast<double>(last.epoch) + static_cast<double>(last.first_batch + last.count) /
                                               static_cast<double>(batches_per_epoch_);
}

bool StepPlan::ends_epoch(std::int64_t step) const {
  return step % updates_per_epoch_ == updates_per_epoch_ - 1;
}

}  // namespace qlora::train
