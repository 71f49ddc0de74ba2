#pragma once
// Copies as many rows of a matrix as a number on the device says.

#include "qlora/kernels/types.h"

namespace qlora::kernels {

// Rows of `bytes` bytes, one every `stride` bytes. Pointers and all three are multiples of 16.
struct RowCopy {
  const void* from = nullptr;
  std::int64_t from_stride = 0;
  void* to = nullptr;
  std::int64_t to_stride = 0;
  std::int64_t bytes = 0;
};

namespace cpu {

// Rows 0 to *rows - 1; 0 <= *rows <= most_rows.
void copy_rows(const RowCopy& copy, const std::int32_t* rows, std::int64_t most_rows,
               Stream stream);

}  // namespace cpu

// rows is device memory.
namespace cuda {

void copy_rows(const RowCopy& copy, const std::int32_t* rows, std::int64_t most_rows,
               Stream stream);

}  // namespace cuda
}  // namespace qlora::kernels
