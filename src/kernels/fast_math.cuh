#pragma once
// The hardware's approximate functions (PTX ISA, "Floating Point Instructions"). The compiler's own
// exp and division cost several times the instructions, which a kernel bound by memory would feel.

namespace qlora::kernels {

// exp(x): relative error below 2^-22 + |x| * 2^-23; 0 where it is below 2^-126.
__device__ inline float fast_exp(float x) {
  constexpr float kLog2E = 1.44269504f;
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x * kLog2E));
  return result;
}

// 1 / x: relative error below 2^-23; 0 where it is below 2^-126.
__device__ inline float fast_reciprocal(float x) {
  float result;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

}  // namespace qlora::kernels
