#pragma once
// A constant array of floats that host code indexes directly and a .cu file copies to the device.

#include "qlora/base/philox.h"

namespace qlora::kernels {

template <int N>
struct Table {
  float values[N];

  static constexpr int size() { return N; }
  QLORA_HOST_DEVICE constexpr float operator[](int i) const { return values[i]; }
};

}  // namespace qlora::kernels
