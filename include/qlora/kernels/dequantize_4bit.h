#pragma once
// 4-bit blockwise dequantization: float32 code value times float32 scale, then one rounding to the
// output type (bitsandbytes' kDequantizeBlockwise). Layout: quantize_4bit.h.

#include "qlora/kernels/types.h"

namespace qlora::kernels {

namespace cpu {

// Writes elements [begin, end) of the tensor to out[0 .. end - begin). `begin` is a multiple of
// `block`; `end` is free (the whole tensor: 0, n). packed and absmax are those of the whole tensor.
// out: float32, float16 or bfloat16.
void dequantize_4bit(QuantType type, const std::uint8_t* packed, const Absmax& absmax,
                     std::int64_t begin, std::int64_t end, std::int64_t block, void* out,
                     DType out_dtype, Stream stream);

// The plain scales of a nested tensor, as dequantize_4bit uses them. out: [blocks].
void dequantize_absmax(const Absmax& absmax, std::int64_t blocks, float* out, Stream stream);

}  // namespace cpu

// All pointers, those of `absmax` too, are device memory; out is 16-byte aligned, packed 4-byte.
// `end` is at most 2^33.
namespace cuda {

void dequantize_4bit(QuantType type, const std::uint8_t* packed, const Absmax& absmax,
                     std::int64_t begin, std::int64_t end, std::int64_t block, void* out,
                     DType out_dtype, Stream stream);

void dequantize_absmax(const Absmax& absmax, std::int64_t blocks, float* out, Stream stream);

}  // namespace cuda
}  // namespace qlora::kernels
