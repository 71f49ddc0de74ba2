#pragma once
// Rows of a matrix picked by index, and put back: embedding lookup, and the labelled rows of the
// hidden states and of their gradient. Elements are copied as they are.
//
// Rows are copied by 16-byte accesses where the data of both matrices is 16-byte aligned and cols
// and strides are multiples of 8 (float32: of 4), else element by element.

#include "qlora/kernels/types.h"

namespace qlora::kernels {

namespace cpu {

// out[r] = source[indices[r]], zeros where the index is negative. indices: [rows], below the
// number of source's rows; out: [rows, cols], not overlapping source; float32, float16 or bfloat16.
void gather_rows(ConstRows source, const std::int32_t* indices, DType dtype, std::int64_t rows,
                 std::int64_t cols, Rows out, Stream stream);

// out[indices[r]] = source[r], nowhere where the index is negative; the other rows of out are left
// as they are. indices: [rows], distinct but for negative ones.
void scatter_rows(ConstRows source, const std::int32_t* indices, DType dtype, std::int64_t rows,
                  std::int64_t cols, Rows out, Stream stream);

}  // namespace cpu

namespace cuda {

void gather_rows(ConstRows source, const std::int32_t* indices, DType dtype, std::int64_t rows,
                 std::int64_t cols, Rows out, Stream stream);

void scatter_rows(ConstRows source, const std::int32_t* indices, DType dtype, std::int64_t rows,
                  std::int64_t cols, Rows out, Stream stream);

}  // namespace cuda
}  // namespace qlora::kernels
