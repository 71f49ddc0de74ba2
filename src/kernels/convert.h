#pragma once
// Runs of elements <-> float32 on the host.

#include "element.h"

namespace qlora::kernels {

// out[i] = element first + i of x, i < n. x: float32, float16 or bfloat16.
void load_floats(DType dtype, const void* x, std::int64_t first, std::int64_t n, float* out);

// Element first + i of x = values[i], rounded to nearest even.
void store_floats(DType dtype, const float* values, std::int64_t n, void* x, std::int64_t first);

// Elements converted before a remainder of less than 8 is left.
namespace avx2 {
std::int64_t load(const Float16* x, std::int64_t n, float* out);
std::int64_t load(const BFloat16* x, std::int64_t n, float* out);
std::int64_t store(const float* values, std::int64_t n, Float16* x);
std::int64_t store(const float* values, std::int64_t n, BFloat16* x);
}  // namespace avx2

}  // namespace qlora::kernels
