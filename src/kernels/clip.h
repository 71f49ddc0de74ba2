#pragma once
// From the sum of squares to the factor of the gradients, shared by the CPU and the CUDA twin.

#include "qlora/kernels/gradient_norm.h"

#include <cfloat>
#include <cmath>

namespace qlora::kernels {

QLORA_HOST_DEVICE inline GradientNorm clipped(double squares, const ClipOptions& options) {
  constexpr double kEpsilon = 1e-6;  // torch.nn.utils.clip_grad_norm_'s guard against 0
  const double norm = sqrt(squares) * options.gradient_scale;
  const double share = options.max_norm > 0 ? options.max_norm / (norm + kEpsilon) : 1;
  const double factor = options.gradient_scale * (share < 1 ? share : 1);
  return {.norm = norm, .factor = static_cast<float>(factor), .finite = norm <= DBL_MAX};
}

}  // namespace qlora::kernels
