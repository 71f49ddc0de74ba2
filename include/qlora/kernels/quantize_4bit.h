#pragma once
// 4-bit blockwise quantization and the second quantization of its scales, as bitsandbytes stores
// them (functional.py quantize_4bit, csrc/kernels.cu dQuantizeNF4, dQuantizeFP4, dQuantize).
//
//   scale[b]  = max |x| of block b (the last block may be short; NaN is passed over)
//   code      = that of x * (1 / max(scale[b], 1e-38)) by the thresholds of code_tables.h
//   packed[j] = code of element 2j in the high nibble, of 2j+1 in the low one; the nibble past an
//               odd end is the code of 0
//
// A block of zeros has scale 0 and the code of 0 (NF4 7, FP4 0) like bitsandbytes on the CPU; its
// CUDA kernel divides 0 by 0 there and stores NF4 code 0, which dequantizes to the same zeros.
// 1 / scale is the correctly rounded quotient; bitsandbytes' CUDA build approximates it.

#include "qlora/kernels/types.h"

namespace qlora::kernels {

namespace cpu {

// weight: [n] float32, float16 or bfloat16; packed: [ceil(n / 2)]; absmax: [ceil(n / block)].
void quantize_4bit(QuantType type, const void* weight, DType dtype, std::int64_t n,
                   std::int64_t block, std::uint8_t* packed, float* absmax, Stream stream);

// Double quantization: offset = mean of absmax (summed in double, rounded once), then the nearest
// code of kSignedMap for (absmax - offset) * (1 / nested_absmax) in blocks of 256; an exact tie
// takes the even code. absmax, codes: [blocks]; nested_absmax: [ceil(blocks / 256)]; offset: [1].
void quantize_absmax(const float* absmax, std::int64_t blocks, std::uint8_t* codes,
                     float* nested_absmax, float* offset, Stream stream);

}  // namespace cpu

// All pointers, `offset` too, are device memory; weight is aligned to two of its elements.
namespace cuda {

void quantize_4bit(QuantType type, const void* weight, DType dtype, std::int64_t n,
                   std::int64_t block, std::uint8_t* packed, float* absmax, Stream stream);

void quantize_absmax(const float* absmax, std::int64_t blocks, std::uint8_t* codes,
                     float* nested_absmax, float* offset, Stream stream);

}  // namespace cuda
}  // namespace qlora::kernels
