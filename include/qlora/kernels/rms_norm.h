#pragma once
// Root mean square normalization (Zhang and Sennrich, "Root Mean Square Layer Normalization",
// 2019) and its gradient.
//
//   rstd[r] = 1 / sqrt(mean over c of x[r, c]^2 + eps)
//   y[r, c] = x[r, c] * rstd[r] * weight[c]
//
// Arithmetic is float32 with one rounding, at the output. transformers' LlamaRMSNorm rounds
// x * rstd to the element type before it multiplies by the weight, a second rounding that this op
// leaves out: the two differ by up to one unit in the last place of a 16-bit y.
//
// The twins form the mean in different orders (the CPU in double): float32 results agree to 2e-6
// of the row's largest, 16-bit ones to one unit in the last place besides. On the GPU the order of
// the sum depends on cols, the type and the alignment alone.
//
// Rows are read and written by 16-byte accesses where every pointer is 16-byte aligned and cols
// and strides are multiples of 8 (float32: of 4); other shapes take a slow path.

#include "qlora/kernels/types.h"

namespace qlora::kernels {

// The gradient of x: dx = dx_add + rstd * (g - x * rstd^2 * mean over c of g * x), g = dy * weight.
struct RmsNormBackward {
  ConstRows dy;                  // [rows, cols]
  ConstRows x;                   // [rows, cols], the input
  const void* weight = nullptr;  // [cols]
  const float* rstd = nullptr;   // [rows], from the forward pass
  ConstRows dx_add;              // [rows, cols], a residual branch's gradient, or null
  Rows dx;                       // [rows, cols]; may be dx_add, dy or x
  Rows y;                        // [rows, cols], the output again, to the bit, or null; may be dy
};

namespace cpu {

// x, y: [rows, cols] (y may be x), weight: [cols], all float32, float16 or bfloat16; rstd: [rows]
// or null.
void rms_norm(ConstRows x, const void* weight, DType dtype, std::int64_t rows, std::int64_t cols,
              float eps, Rows y, float* rstd, Stream stream);

void rms_norm_backward(const RmsNormBackward& args, DType dtype, std::int64_t rows,
                       std::int64_t cols, Stream stream);

}  // namespace cpu

namespace cuda {

void rms_norm(ConstRows x, const void* weight, DType dtype, std::int64_t rows, std::int64_t cols,
              float eps, Rows y, float* rstd, Stream stream);

void rms_norm_backward(const RmsNormBackward& args, DType dtype, std::int64_t rows,
                       std::int64_t cols, Stream stream);

}  // namespace cuda
}  // namespace qlora::kernels
