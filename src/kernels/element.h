#pragma once
// The three element types of activations, weights and gradients, and their exact conversions on
// host and device.

#include "checks.h"
#include "qlora/base/dtype.h"
#include "qlora/base/philox.h"

namespace qlora::kernels {

struct Float16 {
  std::uint16_t bits;
};
struct BFloat16 {
  std::uint16_t bits;
};

QLORA_HOST_DEVICE inline float to_float(float value) { return value; }

QLORA_HOST_DEVICE inline float to_float(Float16 value) {
#ifdef __CUDA_ARCH__
  float result;
  asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(value.bits));
  return result;
#else
  return fp16_to_float(value.bits);
#endif
}

QLORA_HOST_DEVICE inline float to_float(BFloat16 value) {
#ifdef __CUDA_ARCH__
  return __uint_as_float(static_cast<std::uint32_t>(value.bits) << 16);
#else
  return bf16_to_float(value.bits);
#endif
}

// Rounds to nearest even.
template <class T>
QLORA_HOST_DEVICE T from_float(float value);

template <>
QLORA_HOST_DEVICE inline float from_float<float>(float value) {
  return value;
}

template <>
QLORA_HOST_DEVICE inline Float16 from_float<Float16>(float value) {
#ifdef __CUDA_ARCH__
  Float16 result;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(result.bits) : "f"(value));
  return result;
#else
  return {float_to_fp16(value)};
#endif
}

template <>
QLORA_HOST_DEVICE inline BFloat16 from_float<BFloat16>(float value) {
#ifdef __CUDA_ARCH__
  BFloat16 result;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(result.bits) : "f"(value));
  return result;
#else
  return {float_to_bf16(value)};
#endif
}

// Calls body with a value of the element type that `dtype` names.
template <class Body>
void with_element(DType dtype, const char* kernel, const Body& body) {
  switch (dtype) {
    case DType::Float32: return body(float{});
    case DType::Float16: return body(Float16{});
    case DType::BFloat16: return body(BFloat16{});
    default: unsupported_dtype(kernel, dtype);
  }
}

// The same for a parameter and its gradient, which is float32 or of the parameter's type.
template <class Body>
void with_param_and_grad(DType param, DType grad, const char* kernel, const Body& body) {
  with_element(param, kernel, [&](auto p) {
    if (grad == param) {
      body(p, p);
    } else if (grad == DType::Float32) {
      body(p, float{});
    } else {
      unsupported_dtype(kernel, grad);
    }
  });
}

}  // namespace qlora::kernels
