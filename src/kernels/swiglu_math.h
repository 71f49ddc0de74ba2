#pragma once
// The arithmetic of one element and the checks, shared by the twins; each has its own sigmoid.
// Formulas: swiglu.h.

#include "element.h"
#include "qlora/kernels/swiglu.h"

namespace qlora::kernels {

// s = sigmoid(gate)
QLORA_HOST_DEVICE inline float swiglu_h(float gate, float up, float s) { return gate * s * up; }

QLORA_HOST_DEVICE inline float swiglu_d_gate(float gate, float up, float s, float dh) {
  return dh * up * (s + gate * s * (1 - s));
}

QLORA_HOST_DEVICE inline float swiglu_d_up(float gate, float s, float dh) {
  return dh * (gate * s);
}

inline void check_swiglu(ConstRows gate_up, std::int64_t up_offset, std::int64_t cols,
                         ConstRows h) {
  check_rows(gate_up, up_offset + cols);
  check_rows({gate_up.data, up_offset}, cols);  // gate ends before up begins
  check_rows(h, cols);
}

inline void check_swiglu(const SwigluBackward& args, std::int64_t cols) {
  check_swiglu(args.gate_up, args.up_offset, cols, args.dh);
  check_swiglu(args.d_gate_up, args.up_offset, cols, args.h.data ? ConstRows(args.h) : args.dh);
}

}  // namespace qlora::kernels
