#include "fast_math.cuh"
#include "launch.cuh"
#include "run.cuh"
#include "swiglu_math.h"

namespace qlora::kernels::cuda {
namespace {

__device__ float sigmoid(float x) { return fast_reciprocal(1.0f + fast_exp(-x)); }

template <class T, int kWidth>
__global__ void __launch_bounds__(kTileThreads)
    swiglu_kernel(ConstRows gate_up, std::int64_t up_offset, int count, Rows h) {
  const std::int64_t row = blockIdx.x;
  const T* source = row_of<T>(gate_up, row);
  const int first = first_run();
  Run<T, kWidth> held_gate[kTileRuns], held_up[kTileRuns];
  load_runs(source, first, kTileThreads, count, held_gate);
  load_runs(source + up_offset, first, kTileThreads, count, held_up);
#pragma unroll
  for (int k = 0; k < kTileRuns; ++k) {
    const int run = first + k * kTileThreads;
    if (run >= count) break;
    float gate[kWidth], up[kWidth];
    held_gate[k].unpack(gate);
    held_up[k].unpack(up);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) gate[i] = swiglu_h(gate[i], up[i], sigmoid(gate[i]));
    store_run(gate, row_of<T>(h, row) + std::int64_t{run} * kWidth);
  }
}

template <class T, int kWidth>
__global__ void __launch_bounds__(kTileThreads)
    swiglu_backward_kernel(SwigluBackward args, int count) {
  const std::int64_t row = blockIdx.x;
  const T* source = row_of<T>(args.gate_up, row);
  const int first = first_run();
  Run<T, kWidth> held_gate[kTileRuns], held_up[kTileRuns], held_dh[kTileRuns];
  load_runs(source, first, kTileThreads, count, held_gate);
  load_runs(source + args.up_offset, first, kTileThreads, count, held_up);
  load_runs(row_of<T>(args.dh, row), first, kTileThreads, count, held_dh);
#pragma unroll
  for (int k = 0; k < kTileRuns; ++k) {
    const int run = first + k * kTileThreads;
    if (run >= count) break;
    float gate[kWidth], up[kWidth], h[kWidth];
    held_gate[k].unpack(gate);
    held_up[k].unpack(up);
    held_dh[k].unpack(h);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      const float g = gate[i], u = up[i], dh = h[i];
      const float s = sigmoid(g);
      gate[i] = swiglu_d_gate(g, u, s, dh);
      up[i] = swiglu_d_up(g, s, dh);
      h[i] = swiglu_h(g, u, s);
    }
    const std::int64_t start = std::int64_t{run} * kWidth;
    T* target = row_of<T>(args.d_gate_up, row) + start;
    store_run(gate, target);
    store_run(up, target + args.up_offset);
    if (args.h.data != nullptr) store_run(h, row_of<T>(args.h, row) + start);
  }
}

template <class T>
ConstRows up_of(ConstRows gate_up, std::int64_t up_offset) {
  return {static_cast<const T*>(gate_up.data) + up_offset, gate_up.stride};
}

}  // namespace

void swiglu(ConstRows gate_up, std::int64_t up_offset, DType dtype, std::int64_t rows,
            std::int64_t cols, Rows h, Stream stream) {
  if (rows == 0 || cols == 0) return;
  check_swiglu(gate_up, up_offset, cols, h);
  with_element(dtype, "swiglu", [&](auto element) {
    using T = decltype(element);
    const bool aligned = rows_are_aligned<T>(cols, {gate_up, up_of<T>(gate_up, up_offset), h});
    with_run_width<T>(aligned, [&](auto width) {
      const auto count = static_cast<int>(cols / width);
      swiglu_kernel<T, width><<<tile_grid(rows, count), kTileThreads, 0, as_cuda(stream)>>>(
          gate_up, up_offset, count, h);
    });
  });
  check_launch("swiglu");
}

void swiglu_backward(const SwigluBackward& args, DType dtype, std::int64_t rows, std::int64_t cols,
                     Stream stream) {
  if (rows == 0 || cols == 0) return;
  check_swiglu(args, cols);
  with_element(dtype, "swiglu_backward", [&](auto element) {
    using T = decltype(element);
    const bool aligned = rows_are_aligned<T>(
        cols,
        {args.gate_up, up_of<T>(args.gate_up, args.up_offset), args.dh, args.d_gate_up, args.h});
    with_run_width<T>(aligned, [&](auto width) {
      const auto count = static_cast<int>(cols / width);
      swiglu_backward_kernel<T, width>
          <<<tile_grid(rows, count), kTileThreads, 0, as_cuda(stream)>>>(args, count);
    });
  });
  check_launch("swiglu_backward");
}

}  // namespace qlora::kernels::cuda
