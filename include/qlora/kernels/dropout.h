#pragma once
// Dropout whose every decision has a name: feature f of position t of sample s, in epoch e and
// module m, is kept or dropped by a pure function of (seed, m, e, s, t, f). Batch split, packing,
// number of GPUs and resume therefore do not change it, and the backward pass stores no mask.
//
//   words = philox(counter {f / 8, t, s, e}, key(seed, m)), read as eight halves of 16 bits, the
//           low one of each word first; h = f % 8
//   bits  = words[h / 2] >> (16 * (h % 2)) & 0xffff
//   kept where bits >= n for n = min(round(p * 65536), 65535)
//   out   = kept ? x * float(65536 / (65536 - n)) : +0
//
// The epoch is not in the key, since a key is recorded with a CUDA graph that epochs replay.

#include "qlora/base/philox.h"
#include "qlora/kernels/types.h"

namespace qlora::kernels {

struct DropoutKey {
  std::uint64_t seed = 0;
  std::uint64_t module = 0;  // stable_hash of the module's path
};

// The Philox key of (seed, module).
PhiloxKey philox_key(const DropoutKey& key);

// The name of a sample in an epoch: the epoch in the high 32 bits. Throws Error where either is
// negative or does not fit 32 bits.
std::int64_t sample_name(std::int64_t sample, std::int64_t epoch);

namespace cpu {

// x, out: [rows, cols] float32, float16 or bfloat16 (out may be x); samples: [rows] names as
// sample_name gives them; positions: [rows], below 2^32; 0 <= p < 1. The gradient of x is dropout
// of the gradient of out.
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
