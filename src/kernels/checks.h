#pragma once
// Checks that both twins of an op share, kept out of line so that a .cu file needs no fmt.

#include "qlora/kernels/types.h"

namespace qlora::kernels {

[[noreturn]] void unsupported_dtype(const char* kernel, DType dtype);

void check_block_size(std::int64_t block);
// [begin, end) of dequantize_4bit.
void check_range(std::int64_t begin, std::int64_t end, std::int64_t block);
void check_count(std::int64_t count, std::int64_t most);
void check_dropout_rate(float p);
void check_alignment(const void* pointer, std::size_t bytes);
// Rows of `cols` elements that do not overlap.
void check_rows(ConstRows x, std::int64_t cols);

}  // namespace qlora::kernels
