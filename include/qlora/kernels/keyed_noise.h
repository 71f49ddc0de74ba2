#pragma once
// Uniform noise whose every value has a name, as dropout's decisions have (dropout.h): that of
// feature f at position t of sample s is a pure function of (key, s, t, f).
//
//   word = philox(counter {f / 4, t, low 32 bits of s, high 32 bits of s}, philox_key)[f % 4]
//   out[r, f] = scales[r] * (2 * to_unit_float(word) - 1)

#include "qlora/kernels/dropout.h"

namespace qlora::kernels {

namespace cpu {

// out: [rows, cols] float32, float16 or bfloat16, rounded once; samples, positions: [rows],
// positions below 2^32; scales: [rows].
void keyed_noise(DType dtype, std::int64_t rows, std::int64_t cols, const std::int64_t* samples,
                 const std::int64_t* positions, const float* scales, const DropoutKey& key,
                 void* out, Stream stream);

}  // namespace cpu

namespace cuda {

void keyed_noise(DType dtype, std::int64_t rows, std::int64_t cols, const std::int64_t* samples,
                 const std::int64_t* positions, const float* scales, const DropoutKey& key,
                 void* out, Stream stream);

}  // namespace cuda
}  // namespace qlora::kernels
