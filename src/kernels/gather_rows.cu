#include "qlora/kernels/gather_rows.h"

#include "launch.cuh"
#include "run.cuh"

namespace qlora::kernels::cuda {
namespace {

// The grid's rows are those of `out` when gathering, of `source` when scattering.
template <class T, int kWidth, bool kGather>
__global__ void __launch_bounds__(kTileThreads)
    move_rows_kernel(ConstRows source, const std::int32_t* indices, int count, Rows out) {
  const std::int64_t row = blockIdx.x;
  const std::int64_t index = indices[row];
  if (!kGather && index < 0) return;
  const T* from = row_of<T>(source, kGather ? index : row);
  T* to = row_of<T>(out, kGather ? row : index);
  const int first = first_run();
  Run<T, kWidth> held[kTileRuns];
  load_runs(from, first, kTileThreads, index < 0 ? 0 : count, held);
#pragma unroll
  for (int k = 0; k < kTileRuns; ++k) {
    const int run = first + k * kTileThreads;
    if (run < count) held[k].store(to + std::int64_t{run} * kWidth);
  }
}

template <bool kGather>
void move_rows(ConstRows source, const std::int32_t* indices, DType dtype, std::int64_t rows,
               std::int64_t cols, Rows out, Stream stream, const char* kernel) {
  if (rows == 0 || cols == 0) return;
  check_rows(source, cols);
  check_rows(out, cols);
  with_element(dtype, kernel, [&](auto element) {
    using T = decltype(element);
    with_run_width<T>(rows_are_aligned<T>(cols, {source, out}), [&](auto width) {
      const auto count = static_cast<int>(cols / width);
      move_rows_kernel<T, width, kGather>
          <<<tile_grid(rows, count), kTileThreads, 0, as_cuda(stream)>>>(source, indices, count,
                                                                         out);
    });
  });
  check_launch(kernel);
}

}  // namespace

void gather_rows(ConstRows source, const std::int32_t* indices, DType dtype, std::int64_t rows,
                 std::int64_t cols, Rows out, Stream stream) {
  move_rows<true>(source, indices, dtype, rows, cols, out, stream, "gather_rows");
}

void scatter_rows(ConstRows source, const std::int32_t* indices, DType dtype, std::int64_t rows,
                  std::int64_t cols, Rows out, Stream stream) {
  move_rows<false>(source, indices, dtype, rows, cols, out, stream, "scatter_rows");
}

}  // namespace qlora::kernels::cuda
