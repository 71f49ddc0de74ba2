#pragma once
// The arithmetic of one element and the checks, shared by the twins. Formulas: rms_norm.h.

#include "element.h"
#include "qlora/kernels/rms_norm.h"

namespace qlora::kernels {

QLORA_HOST_DEVICE inline float rms_normed(float x, float rstd, float weight) {
  return x * rstd * weight;
}

// `slope` is rstd^2 times the mean of dy * weight * x.
QLORA_HOST_DEVICE inline float rms_norm_dx(float dy, float x, float weight, float rstd,
                                           float slope) {
  return rstd * (dy * weight - x * slope);
}

inline void check_backward(const RmsNormBackward& args, std::int64_t cols) {
  check_rows(args.dy, cols);
  check_rows(args.x, cols);
  check_rows(args.dx, cols);
  if (args.dx_add.data != nullptr) check_rows(args.dx_add, cols);
  if (args.y.data != nullptr) check_rows(args.y, cols);
}

}  // namespace qlora::kernels
