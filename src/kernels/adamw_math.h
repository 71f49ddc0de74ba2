#pragma once
// The arithmetic of one element, shared by the CPU and the CUDA twin. Formulas: adamw.h.

#include "element.h"
#include "nearest_code.h"
#include "qlora/kernels/adamw.h"

#include <cmath>

namespace qlora::kernels {

// What a step's scalars come to, rounded to float32 once on the host.
struct AdamWScalars {
  float beta1, one_minus_beta1;
  float beta2, one_minus_beta2;
  float step_size;     // negative
  float root_divisor;  // c2, by which sqrt(v) is divided (32 bit only)
  float eps;
  float keep;  // 1 - lr * weight_decay
  bool decays;
  float grad_scale;
};

AdamWScalars scalars_8bit(const AdamWStep& step);
AdamWScalars scalars_32bit(const AdamWStep& step);

// Updates the moments and returns the new parameter.
template <class T>
QLORA_HOST_DEVICE T update_8bit(T param, float grad, float& m, float& v, const AdamWScalars& s) {
  const float g = grad * s.grad_scale;
  if (!(g * g <= 3.402823466e38f)) {  // the largest float: false for Inf and NaN
    m = 0;
    v = 0;
    return param;
  }
  v = v * s.beta2 + s.one_minus_beta2 * g * g;
  m = m * s.beta1 + s.one_minus_beta1 * g;
  const T moved = from_float<T>(to_float(param) + s.step_size * (m / (sqrtf(v) + s.eps)));
  return s.decays ? from_float<T>(to_float(moved) * s.keep) : moved;
}

template <class T>
QLORA_HOST_DEVICE T update_32bit(T param, float grad, float& m, float& v, const AdamWScalars& s) {
  const float g = grad * s.grad_scale;
  const float decayed = to_float(param) * s.keep;
  m = m + s.one_minus_beta1 * (g - m);
  v = v * s.beta2 + s.one_minus_beta2 * g * g;
  const float denominator = sqrtf(v) / s.root_divisor + s.eps;
  return from_float<T>(decayed + s.step_size * m / denominator);
}

// A moment in units of its block's largest; 0 in a block of zeros.
QLORA_HOST_DEVICE inline float relative_moment(float moment, float absmax) {
  return absmax > 0 ? moment / absmax : 0.0f;
}

// The code that keeps the moment's sign: the neighbour of a nearest code that would flip it.
QLORA_HOST_DEVICE inline std::uint8_t repair_sign(std::uint8_t code, float moment,
                                                  const float* map) {
  if (std::signbit(map[code]) == std::signbit(moment)) return code;
  return static_cast<std::uint8_t>(moment > 0 ? code + 1 : code - 1);
}

}  // namespace qlora::kernels
