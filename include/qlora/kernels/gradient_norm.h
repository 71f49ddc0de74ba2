#pragma once
// The L2 norm of all gradients of a table and what clipping makes of it, left in device memory for
// the update to read.
//
// The sum of squares is formed in double, in an order that depends on the sizes alone: a tensor's
// chunks of 16,384 elements are each summed by 256 lanes (element i belongs to lane i % 256) and a
// halving tree over the lanes, then the chunks' sums the same way, then the tensors' sums are added
// in order. Squares of float32 are exact in double.

#include "qlora/kernels/adamw_table.h"

namespace qlora::kernels {

struct ClipOptions {
  double gradient_scale = 1;  // multiplies every gradient: 1 / the loss scale
  double max_norm = 0;        // 0: no clipping
};

struct GradientNorm {
  double norm = 0;     // of the scaled gradients
  float factor = 1;    // gradient_scale * min(1, max_norm / (norm + 1e-6)), as torch clips
  bool finite = true;  // false: the update must not be done
};

// Bytes of scratch memory that gradient_norm needs for a table of at least one tensor.
std::int64_t gradient_norm_workspace(const AdamWTable& table);

namespace cpu {

// workspace: 8-byte aligned, zero before its first use with a table of these sizes.
void gradient_norm(const AdamWTable& table, const ClipOptions& options, void* workspace,
                   GradientNorm* result, Stream stream);

}  // namespace cpu

namespace cuda {

void gradient_norm(const AdamWTable& table, const ClipOptions& options, void* workspace,
                   GradientNorm* result, Stream stream);

}  // namespace cuda
}  // namespace qlora::kernels
