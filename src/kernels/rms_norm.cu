#include "launch.cuh"
#include "rms_norm_math.h"
#include "run.cuh"

#include <algorithm>

namespace qlora::kernels::cuda {
namespace {

// A row belongs to blockDim.x threads: one warp where it is narrow (with blockDim.y rows in a
// block), else a block, so many that each holds kRuns runs of it between the sum and the write.
// Only rows too wide for kMaxThreads are read a second time.
constexpr int kRuns = 4;
constexpr int kMaxThreads = 512;
constexpr int kRowsPerBlock = 4;

struct Shape {
  std::int64_t rows;
  std::int64_t cols;
};

__device__ std::int64_t own_row() { return std::int64_t{blockIdx.x} * blockDim.y + threadIdx.y; }

// The sum over the threads that share a row, in all of them. Call once per kernel.
__device__ float row_sum(float value) {
  __shared__ float warps[kMaxThreads / kWarp];
  value = warp_sum(value);
  if (blockDim.x == kWarp) return value;
  if (threadIdx.x % kWarp == 0) warps[threadIdx.x / kWarp] = value;
  __syncthreads();
  const unsigned lane = threadIdx.x % kWarp;
  return warp_sum(lane < blockDim.x / kWarp ? warps[lane] : 0.0f);
}

template <class T, int kWidth>
__global__ void __launch_bounds__(kMaxThreads)
    rms_norm_kernel(ConstRows x, const T* weight, Shape shape, float eps, Rows y, float* rstd) {
  const std::int64_t row = own_row();
  if (row >= shape.rows) return;
  const T* source = row_of<T>(x, row);
  T* target = row_of<T>(y, row);
  const int count = static_cast<int>(shape.cols / kWidth);
  const int step = static_cast<int>(blockDim.x);

  Run<T, kWidth> held[kRuns];
  Run<T, kWidth> held_weight[kRuns];
  float values[kWidth];
  float sum = 0;
  for (int first = threadIdx.x; first < count; first += kRuns * step) {
    load_runs(source, first, step, count, held);
    load_runs(weight, first, step, count, held_weight);
#pragma unroll
    for (int k = 0; k < kRuns; ++k) {
      held[k].unpack(values);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) sum += values[i] * values[i];
    }
  }
  const float scale = 1.0f / sqrtf(row_sum(sum) / static_cast<float>(shape.cols) + eps);
  if (rstd != nullptr && threadIdx.x == 0) rstd[row] = scale;
  for (int first = threadIdx.x; first < count; first += kRuns * step) {
    if (count > kRuns * step) {
      load_runs(source, first, step, count, held);
      load_runs(weight, first, step, count, held_weight);
    }
#pragma unroll
    for (int k = 0; k < kRuns; ++k) {
      const int run = first + k * step;
      if (run >= count) break;
      float w[kWidth];
      held[k].unpack(values);
      held_weight[k].unpack(w);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) values[i] = rms_normed(values[i], scale, w[i]);
      store_run(values, target + std::int64_t{run} * kWidth);
    }
  }
}

// What a thread holds of a row in the backward pass.
template <class T, int kWidth>
struct Held {
  Run<T, kWidth> dy[kRuns];
  Run<T, kWidth> x[kRuns];
  Run<T, kWidth> weight[kRuns];
  Run<T, kWidth> add[kRuns];

  __device__ void load(const RmsNormBackward& args, std::int64_t row, int first, int count) {
    const int step = static_cast<int>(blockDim.x);
    load_runs(row_of<T>(args.dy, row), first, step, count, dy);
    load_runs(row_of<T>(args.x, row), first, step, count, x);
    load_runs(static_cast<const T*>(args.weight), first, step, count, weight);
    load_runs(row_of<T>(args.dx_add, row), first, step, args.dx_add.data ? count : 0, add);
  }
};

template <class T, int kWidth>
__global__ void __launch_bounds__(kMaxThreads)
    rms_norm_backward_kernel(RmsNormBackward args, Shape shape) {
  const std::int64_t row = own_row();
  if (row >= shape.rows) return;
  const int count = static_cast<int>(shape.cols / kWidth);
  const int step = static_cast<int>(blockDim.x);
  const float rstd = args.rstd[row];

  Held<T, kWidth> held;
  float dy[kWidth], x[kWidth], w[kWidth];
  float sum = 0;
  for (int first = threadIdx.x; first < count; first += kRuns * step) {
    held.load(args, row, first, count);
#pragma unroll
    for (int k = 0; k < kRuns; ++k) {
      held.dy[k].unpack(dy);
      held.x[k].unpack(x);
      held.weight[k].unpack(w);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) sum += dy[i] * w[i] * x[i];
    }
  }
  const float slope = row_sum(sum) / static_cast<float>(shape.cols) * rstd * rstd;
  for (int first = threadIdx.x; first < count; first += kRuns * step) {
    if (count > kRuns * step) held.load(args, row, first, count);
#pragma unroll
    for (int k = 0; k < kRuns; ++k) {
      const int run = first + k * step;
      if (run >= count) break;
      const std::int64_t start = std::int64_t{run} * kWidth;
      float dx[kWidth];
      held.dy[k].unpack(dy);
      held.x[k].unpack(x);
      held.weight[k].unpack(w);
      held.add[k].unpack(dx);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) dx[i] += rms_norm_dx(dy[i], x[i], w[i], rstd, slope);
      store_run(dx, row_of<T>(args.dx, row) + start);
      if (args.y.data == nullptr) continue;
#pragma unroll
      for (int i = 0; i < kWidth; ++i) x[i] = rms_normed(x[i], rstd, w[i]);
      store_run(x, row_of<T>(args.y, row) + start);
    }
  }
}

// Threads of a block for rows of `cols` elements in runs of kWidth.
template <int kWidth>
dim3 block_for(std::int64_t cols) {
  const std::int64_t threads = grid_for(cols / kWidth, kRuns * kWarp) * std::int64_t{kWarp};
  const auto x = static_cast<unsigned>(std::clamp<std::int64_t>(threads, kWarp, kMaxThreads));
  return {x, x == kWarp ? unsigned{kRowsPerBlock} : 1u};
}

}  // namespace

void rms_norm(ConstRows x, const void* weight, DType dtype, std::int64_t rows, std::int64_t cols,
              float eps, Rows y, float* rstd, Stream stream) {
  if (rows == 0 || cols == 0) return;
  check_rows(x, cols);
  check_rows(y, cols);
  with_element(dtype, "rms_norm", [&](auto element) {
    using T = decltype(element);
    with_run_width<T>(rows_are_aligned<T>(cols, {x, y, {weight, 0}}), [&](auto width) {
      const dim3 block = block_for<width>(cols);
      rms_norm_kernel<T, width><<<grid_for(rows, block.y), block, 0, as_cuda(stream)>>>(
          x, static_cast<const T*>(weight), {rows, cols}, eps, y, rstd);
    });
  });
  check_launch("rms_norm");
}

void rms_norm_backward(const RmsNormBackward& args, DType dtype, std::int64_t rows,
                       std::int64_t cols, Stream stream) {
  if (rows == 0 || cols == 0) return;
  check_backward(args, cols);
  with_element(dtype, "rms_norm_backward", [&](auto element) {
    using T = decltype(element);
    const bool aligned = rows_are_aligned<T>(
        cols, {args.dy, args.x, {args.weight, 0}, args.dx_add, args.dx, args.y});
    with_run_width<T>(aligned, [&](auto width) {
      const dim3 block = block_for<width>(cols);
      rms_norm_backward_kernel<T, width>
          <<<grid_for(rows, block.y), block, 0, as_cuda(stream)>>>(args, {rows, cols});
    });
  });
  check_launch("rms_norm_backward");
}

}  // namespace qlora::kernels::cuda
