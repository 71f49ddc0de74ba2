#pragma once
// Cross-entropy of rows of logits, and its gradient in the logits' own memory.
//
//   loss[r]      = log(sum over v of exp(logits[r, v])) - logits[r, label[r]]
//   dlogits[r,v] = (exp(logits[r, v]) / sum - (v == label[r])) * scale
//
// Arithmetic is float32 (the CPU sums in double) with one rounding, at the gradient. The GPU takes
// exp from the hardware's approximation. The twins' losses agree to 2e-6 * (1 + loss), their
// gradients to 2e-6 * scale, and 16-bit ones to one unit in the last place besides. On the GPU the
// order of the sum depends on vocabulary, the type and the alignment alone.
//
// The GPU keeps what it can of a row in shared memory (102,400 bfloat16 logits fit on an H100) and
// reads only the rest a second time. Rows are read and written by 16-byte accesses where the data
// is 16-byte aligned and vocabulary and stride are multiples of 8 (float32: of 4); other shapes
// take a slow path.

#include "qlora/kernels/types.h"

namespace qlora::kernels {

// The label of a row that is not learnt: its loss is 0 and its gradient is 0.
inline constexpr std::int32_t kIgnoredLabel = -100;

namespace cpu {

// logits: [rows, vocabulary] float32, float16 or bfloat16, replaced by their gradient; labels:
// [rows], in [0, vocabulary) or kIgnoredLabel; scale: [1], the gradient of every loss; losses:
// [rows], not scaled. NaN and +Inf make their row's loss and gradient NaN; -Inf is a probability
// of 0.
void cross_entropy(Rows logits, DType dtype, std::int64_t rows, std::int64_t vocabulary,
                   const std::int32_t* labels, const float* scale, float* losses, Stream stream);

// *sum += the losses, in double, by 256 lanes as gradient_norm.h says: the same bits on both twins.
// losses: [rows].
void sum_losses(const float* losses, std::int64_t rows, double* sum, Stream stream);

}  // namespace cpu

// scale and sum are device memory.
namespace cuda {

void cross_entropy(Rows logits, DType dtype, std::int64_t rows, std::int64_t vocabulary,
                   const std::int32_t* labels, const float* scale, float* losses, Stream stream);

void sum_losses(const float* losses, std::int64_t rows, double* sum, Stream stream);

}  // namespace cuda
}  // namespace qlora::kernels
