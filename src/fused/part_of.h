#pragma once

#include "qlora/kernels/types.h"

#include <type_traits>

namespace qlora::fused {

// The part of a matrix (kernels::Rows or ConstRows) from its element (row, column) on.
template <class R>
R part_of(R matrix, std::int64_t row, std::int64_t column, DType dtype) {
  using Byte = std::conditional_t<std::is_same_v<R, kernels::Rows>, std::byte, const std::byte>;
  const std::int64_t elements = row * matrix.stride + column;
  return {static_cast<Byte*>(matrix.data) + elements * static_cast<std::int64_t>(size_of(dtype)),
          matrix.stride};
}

}  // namespace qlora::fused
