#include "qlora/optim/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace qlora::optim {
namespace {

// The rate at which transformers' polynomial schedule ends.
constexpr double kPolynomialEnd = 1e-7;
// transformers' time scale of inverse_sqrt where there is no warmup.
constexpr std::int64_t kDefaultTimeScale = 10000;

double cosine(double progress) {
  return std::max(0.0, 0.5 * (1 + std::cos(std::numbers::pi * progress)));
}

// progress: share of the steps after warmup that lie behind, 0 to 1.
double decayed_multiplier(const Schedule& s, std::int64_t step, double progress) {
  switch (s.type) {
    case LrSchedulerType::Linear: return std::max(0.0, 1 - progress);
    case LrSchedulerType::Cosine: return cosine(progress);
    case LrSchedulerType::CosineWithRestarts:
      return progress >= 1 ? 0.0 : cosine(std::fmod(progress, 1.0));
    case LrSchedulerType::CosineWithMinLr:
      return cosine(progress) * (1 - s.min_lr_rate) + s.min_lr_rate;
    case LrSchedulerType::Polynomial:
      return progress >= 1
                 ? kPolynomialEnd / s.learning_rate
                 : ((s.learning_rate - kPolynomialEnd) * (1 - progress) + kPolynomialEnd) /
                       s.learning_rate;
    case LrSchedulerType::InverseSqrt: {
      const std::int64_t scale = s.warmup_steps > 0 ? s.warmup_steps : kDefaultTimeScale;
      const std::int64_t shifted = step + scale - s.warmup_steps;
      return 1 / std::sqrt(static_cast<double>(shifted) / static_cast<double>(scale));
    }
    case LrSchedulerType::Constant:
    case LrSchedulerType::ConstantWithWarmup: return 1;
  }
  return 1;
}

}  // namespace

double learning_rate(const Schedule& s, std::int64_t step) {
  // "constant" ignores warmup, as in transformers; constant_with_warmup does not.
  const bool warming = step < s.warmup_steps && s.type != LrSchedulerType::Constant;
  if (warming) {
    return s.learning_rate * static_cast<double>(step) / static_cast<double>(s.warmup_steps);
  }
  const auto behind = static_cast<double>(step - s.warmup_steps);
  const auto whole = static_cast<double>(std::max<std::int64_t>(1, s.max_steps - s.warmup_steps));
  return s.learning_rate * decayed_multiplier(s, step, behind / whole);
}

}  // namespace qlora::optim
