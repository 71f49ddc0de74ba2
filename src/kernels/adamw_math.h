#pragma once
// The arithmetic of one element, shared by the CPU and the CUDA twin. Formulas: adamw.h.

#include "element.h"
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
  float keep;  // 1 - lr * weight_decay; of a tensor without decay 1
};

struct StepScalars {
  AdamWScalars eight_bit, full;  // for tensors with 8-bit and with float32 state
};

StepScalars scalars_of(const AdamWStep& step);

// `value` rounded to T.
template <class T>
QLORA_HOST_DEVICE float rounded(float value) {
  return to_float(from_float<T>(value));
}

// An element whose gradient is no number, or too large to be squared, is left out of the update.
QLORA_HOST_DEVICE inline bool is_usable(float g) {
  return g * g <= 3.402823466e38f;  // the largest float: false for Inf and NaN
}

// The moments' part of an update; g is the scaled gradient.
QLORA_HOST_DEVICE inline void advance_8bit(float g, float& m, float& v, const AdamWScalars& s) {
  v = v * s.beta2 + s.one_minus_beta2 * g * g;
  m = m * s.beta1 + s.one_minus_beta1 * g;
}

// Correctly rounded division and root.
struct Ieee {
  QLORA_HOST_DEVICE static float quotient(float a, float b) { return a / b; }
  QLORA_HOST_DEVICE static float root(float x) { return sqrtf(x); }
};

// The parameter's part: the new one, a value of type T.
template <class T, class Arithmetic>
QLORA_HOST_DEVICE float moved_8bit(float param, float m, float v, const AdamWScalars& s, float keep,
                                   Arithmetic) {
  const float change = Arithmetic::quotient(m, Arithmetic::root(v) + s.eps);
  return rounded<T>(rounded<T>(param + s.step_size * change) * keep);
}

// The whole update with float32 state.
template <class T>
QLORA_HOST_DEVICE float update_32bit(float param, float g, float& m, float& v,
                                     const AdamWScalars& s, float keep) {
  const float decayed = param * keep;
  m = m + s.one_minus_beta1 * (g - m);
  v = v * s.beta2 + s.one_minus_beta2 * g * g;
  const float denominator = sqrtf(v) / s.root_divisor + s.eps;
  return rounded<T>(decayed + s.step_size * m / denominator);
}

// A moment's magnitude in units of its block's largest; 0 in a block of zeros.
QLORA_HOST_DEVICE inline float relative_magnitude(float moment, float absmax) {
  return absmax > 0 ? fabsf(moment) / absmax : 0.0f;
}

// Where element e of a parameter lies in its copy.
QLORA_HOST_DEVICE inline std::int64_t copy_index(const ComputeCopy& copy, std::int64_t e) {
  const auto i = static_cast<std::uint32_t>(copy.first + e);
  if (copy.pitch == copy.columns) return i;
  const auto columns = static_cast<std::uint32_t>(copy.columns);
  return i / columns * copy.pitch + i % columns;
}

}  // namespace qlora::kernels
