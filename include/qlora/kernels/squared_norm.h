#pragma once
// Sum of squares in double, in an order that depends on n alone: chunks of 16,384 elements, each
// summed by 256 lanes (element i belongs to lane i % 256) and a halving tree over the lanes, then
// the chunks' sums the same way. Squares of float32 are exact in double.

#include "qlora/kernels/types.h"

namespace qlora::kernels {

inline constexpr std::int64_t kNormChunk = 16384;

// Doubles of scratch memory that squared_norm needs.
std::int64_t squared_norm_workspace(std::int64_t n);

namespace cpu {

// *sum += sum of squares of x. x: [n] float32, float16 or bfloat16; workspace:
// [squared_norm_workspace(n)]. NaN and Inf reach the sum.
void squared_norm(const void* x, DType dtype, std::int64_t n, double* workspace, double* sum,
                  Stream stream);

}  // namespace cpu

// workspace and sum are device memory.
namespace cuda {

void squared_norm(const void* x, DType dtype, std::int64_t n, double* workspace, double* sum,
                  Stream stream);

}  // namespace cuda
}  // namespace qlora::kernels
