#include "qlora/train/loss_scaler.h"

namespace qlora::train {
namespace {

constexpr std::int64_t kGrowthInterval = 2000;
constexpr double kGrowth = 2.0;
constexpr double kBackoff = 0.5;

}  // namespace

bool LossScaler::accept(bool gradients_finite) {
  if (!enabled_) return gradients_finite;
  if (!gradients_finite) {
    scale_ *= kBackoff;
    good_steps_ = 0;
    return false;
  }
  if (++good_steps_ == kGrowthInterval) {
    scale_ *= kGrowth;
    good_steps_ = 0;
  }
  return true;
}

void LossScaler::restore(double scale, std::int64_t good_steps) {
  if (!enabled_) return;
  scale_ = scale;
  good_steps_ = good_steps;
}

}  // namespace qlora::train
