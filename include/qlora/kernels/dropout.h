#pragma once
// Dropout whose every decision has a name: feature f of position t of sample s, in module m and
// epoch e, is kept or dropped by a pure function of (seed, e, s, m, t, f). Batch split, packing,
// number of GPUs and resume therefore do not change it, and the backward pass stores no mask.
//
//   word = philox(counter {f / 4, t, low 32 bits of s, high 32 bits of s}, key(seed, m, e))[f % 4]
//   kept where to_unit_float(word) >= p;  out = kept ? x * float(1 / (1 - p)) : +0

#include "qlora/base/philox.h"
#include "qlora/kernels/types.h"

namespace qlora::kernels {

struct DropoutKey {
  std::uint64_t seed = 0;
  std::uint64_t module = 0;  // stable_hash of the module's path
  std::uint32_t epoch = 0;
};

// The Philox key of (seed, module, epoch).
PhiloxKey philox_key(const DropoutKey& key);

namespace cpu {

// x, out: [rows, cols] float32, float16 or bfloat16 (out may be x); samples, positions: [rows],
// positions below 2^32; 0 <= p < 1. The gradient of x is dropout of the gradient of out.
void dropout(const void* x, DType dtype, std::int64_t rows, std::int64_t cols,
             const std::int64_t* samples, const std::int64_t* positions, const DropoutKey& key,
             float p, void* out, Stream stream);

}  // namespace cpu

namespace cuda {

void dropout(const void* x, DType dtype, std::int64_t rows, std::int64_t cols,
             const std::int64_t* samples, const std::int64_t* positions, const DropoutKey& key,
             float p, void* out, Stream stream);

}  // namespace cuda
}  // namespace qlora::kernels
