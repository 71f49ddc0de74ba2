#pragma once
// Rows of a known element type, on host and device.

#include "element.h"

#include <initializer_list>

namespace qlora::kernels {

template <class T>
QLORA_HOST_DEVICE const T* row_of(ConstRows x, std::int64_t row) {
  return static_cast<const T*>(x.data) + row * x.stride;
}

template <class T>
QLORA_HOST_DEVICE T* row_of(Rows x, std::int64_t row) {
  return static_cast<T*>(x.data) + row * x.stride;
}

// Rows of a CPU kernel that are worth waking a thread for.
inline std::int64_t row_grain(std::int64_t cols) { return 16384 / (cols < 16384 ? cols : 16384); }

// Whether all rows start on a 16-byte boundary and are made of whole 16-byte units. Null rows are.
template <class T>
bool rows_are_aligned(std::int64_t cols, std::initializer_list<ConstRows> matrices) {
  constexpr std::int64_t kUnitElements = 16 / sizeof(T);
  bool aligned = cols % kUnitElements == 0;
  for (const ConstRows& x : matrices) {
    aligned = aligned && reinterpret_cast<std::uintptr_t>(x.data) % 16 == 0;
    aligned = aligned && x.stride % kUnitElements == 0;
  }
  return aligned;
}

}  // namespace qlora::kernels
