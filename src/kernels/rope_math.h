#pragma once
// The turn of one pair of features and the checks, shared by the twins. Formulas: rope.h.

#include "element.h"
#include "qlora/kernels/rope.h"

namespace qlora::kernels {

// Turns (low, high) in place.
QLORA_HOST_DEVICE inline void turn(float& low, float& high, float cos, float sin) {
  const float turned = low * cos - high * sin;
  high = high * cos + low * sin;
  low = turned;
}

// What sin is multiplied by.
inline float sign_of(RopeDirection direction) {
  return direction == RopeDirection::Forward ? 1.0f : -1.0f;
}

void check_heads(ConstRows x, const HeadShape& shape);

}  // namespace qlora::kernels
