#pragma once
// The gated activation of Llama's MLP (Shazeer, "GLU Variants Improve Transformer", 2020) and its
// gradient, on the packed output of the gate and up projections.
//
//   s = 1 / (1 + exp(-gate))        h = gate * s * up
//   d_gate = dh * up * (s + gate * s * (1 - s))        d_up = dh * gate * s
//
// Arithmetic is float32 with one rounding, at the output; transformers rounds silu(gate) to the
// element type before the product with up, which this op leaves out. The GPU takes exp and the
// quotient from the hardware's approximations: s has a relative error below 2^-20 + |gate| * 2^-23
// (16-bit types round by 2^-9 and 2^-12) and is 0 where it is below 2^-126. The twins agree to
// 2e-6 of the row's largest, and 16-bit results to one unit in the last place besides.
//
// Rows are read and written by 16-byte accesses where every pointer is 16-byte aligned and cols,
// strides and up_offset are multiples of 8 (float32: of 4); other shapes take a slow path.

#include "qlora/kernels/types.h"

namespace qlora::kernels {

struct SwigluBackward {
  ConstRows gate_up;           // [rows, up_offset + cols], the input
  ConstRows dh;                // [rows, cols]
  Rows d_gate_up;              // [rows, up_offset + cols]; may be gate_up
  Rows h;                      // [rows, cols], the output again, to the bit, or null; may be dh
  std::int64_t up_offset = 0;  // of gate_up and of d_gate_up
};

namespace cpu {

// gate_up: [rows, up_offset + cols], where gate is columns [0, cols) and up is columns
// [up_offset, up_offset + cols), up_offset >= cols; h: [rows, cols]; all float32, float16 or
// bfloat16. h may be gate_up: it replaces gate.
void swiglu(ConstRows gate_up, std::int64_t up_offset, DType dtype, std::int64_t rows,
            std::int64_t cols, Rows h, Stream stream);

void swiglu_backward(const SwigluBackward& args, DType dtype, std::int64_t rows, std::int64_t cols,
                     Stream stream);

}  // namespace cpu

namespace cuda {

void swiglu(ConstRows gate_up, std::int64_t up_offset, DType dtype, std::int64_t rows,
            std::int64_t cols, Rows h, Stream stream);

void swiglu_backward(const SwigluBackward& args, DType dtype, std::int64_t rows, std::int64_t cols,
                     Stream stream);

}  // namespace cuda
}  // namespace qlora::kernels
