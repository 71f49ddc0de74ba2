#include "convert.h"
#include "qlora/base/parallel.h"
#include "rows.h"
#include "swiglu_math.h"

#include <cmath>
#include <vector>

namespace qlora::kernels::cpu {
namespace {

float sigmoid(float x) { return 1 / (1 + std::exp(-x)); }

}  // namespace

void swiglu(ConstRows gate_up, std::int64_t up_offset, DType dtype, std::int64_t rows,
            std::int64_t cols, Rows h, Stream) {
  if (rows == 0 || cols == 0) return;
  check_swiglu(gate_up, up_offset, cols, h);
  parallel_for(rows, row_grain(cols), [&](std::int64_t first, std::int64_t last) {
    std::vector<float> gate(static_cast<std::size_t>(cols)), up(gate.size());
    for (std::int64_t row = first; row < last; ++row) {
      load_floats(dtype, gate_up.data, row * gate_up.stride, cols, gate.data());
      load_floats(dtype, gate_up.data, row * gate_up.stride + up_offset, cols, up.data());
      for (std::int64_t c = 0; c < cols; ++c) gate[c] = swiglu_h(gate[c], up[c], sigmoid(gate[c]));
      store_floats(dtype, gate.data(), cols, h.data, row * h.stride);
    }
  });
}

void swiglu_backward(const SwigluBackward& args, DType dtype, std::int64_t rows, std::int64_t cols,
                     Stream) {
  if (rows == 0 || cols == 0) return;
  check_swiglu(args, cols);
  parallel_for(rows, row_grain(cols), [&](std::int64_t first, std::int64_t last) {
    std::vector<float> gate(static_cast<std::size_t>(cols)), up(gate.size()), h(gate.size());
    for (std::int64_t row = first; row < last; ++row) {
      const std::int64_t in = row * args.gate_up.stride;
      const std::int64_t out = row * args.d_gate_up.stride;
      load_floats(dtype, args.gate_up.data, in, cols, gate.data());
      load_floats(dtype, args.gate_up.data, in + args.up_offset, cols, up.data());
      load_floats(dtype, args.dh.data, row * args.dh.stride, cols, h.data());
      for (std::int64_t c = 0; c < cols; ++c) {
        const float g = gate[c], u = up[c], dh = h[c];
        const float s = sigmoid(g);
        gate[c] = swiglu_d_gate(g, u, s, dh);
        up[c] = swiglu_d_up(g, s, dh);
        h[c] = swiglu_h(g, u, s);
      }
      store_floats(dtype, gate.data(), cols, args.d_gate_up.data, out);
      store_floats(dtype, up.data(), cols, args.d_gate_up.data, out + args.up_offset);
      if (args.h.data == nullptr) continue;
      store_floats(dtype, h.data(), cols, args.h.data, row * args.h.stride);
    }
  });
}

}  // namespace qlora::kernels::cpu
