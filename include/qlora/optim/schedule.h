#pragma once
// Learning-rate schedules as pure functions of the step (transformers' optimization.py).

#include "qlora/base/constraints.h"

#include <array>
#include <cstdint>

namespace qlora::optim {

enum class LrSchedulerType {
  Linear,
  Cosine,
  CosineWithRestarts,
  CosineWithMinLr,
  Polynomial,
  Constant,
  ConstantWithWarmup,
  InverseSqrt,
};

constexpr std::array<EnumName<LrSchedulerType>, 8> enum_names(LrSchedulerType /*tag*/) {
  using enum LrSchedulerType;
  return {{{Linear, "linear"},
           {Cosine, "cosine"},
           {CosineWithRestarts, "cosine_with_restarts"},
           {CosineWithMinLr, "cosine_with_min_lr"},
           {Polynomial, "polynomial"},
           {Constant, "constant"},
           {ConstantWithWarmup, "constant_with_warmup"},
           {InverseSqrt, "inverse_sqrt"}}};
}

struct Schedule {
  LrSchedulerType type = LrSchedulerType::Linear;
  double learning_rate = 5e-5;  // the peak
  std::int64_t warmup_steps = 0;
  std::int64_t max_steps = 1;
  double min_lr_rate = 0;  // cosine_with_min_lr: the end as a share of the peak
};

// The learning rate of update `step`, counted from 0. With warmup the first update runs at 0, as
// in the HF stack.
double learning_rate(const Schedule& schedule, std::int64_t step);

}  // namespace qlora::optim
