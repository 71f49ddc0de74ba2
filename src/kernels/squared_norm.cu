#include "qlora/kernels/squared_norm.h"

#include "lane_sum.cuh"
#include "launch.cuh"

namespace qlora::kernels::cuda {
namespace {

template <class T>
__global__ void chunk_kernel(const T* x, std::int64_t n, double* chunks) {
  const std::int64_t start = std::int64_t{blockIdx.x} * kNormChunk;
  const std::int64_t count = n - start < kNormChunk ? n - start : kNormChunk;
  const double sum = block_lane_sum(count, [&](std::int64_t i) {
    const double value = to_float(x[start + i]);
    return value * value;
  });
  if (threadIdx.x == 0) chunks[blockIdx.x] = sum;
}

__global__ void total_kernel(const double* chunks, std::int64_t n, double* total) {
  const double sum = block_lane_sum(n, [&](std::int64_t i) { return chunks[i]; });
  if (threadIdx.x == 0) *total += sum;
}

}  // namespace

void squared_norm(const void* x, DType dtype, std::int64_t n, double* workspace, double* sum,
                  Stream stream) {
  if (n == 0) return;
  const std::int64_t chunks = squared_norm_workspace(n);
  with_element(dtype, "squared_norm", [&](auto element) {
    chunk_kernel<<<static_cast<unsigned>(chunks), kSumLanes, 0, as_cuda(stream)>>>(
        static_cast<const decltype(element)*>(x), n, workspace);
  });
  total_kernel<<<1, kSumLanes, 0, as_cuda(stream)>>>(workspace, chunks, sum);
  check_launch("squared_norm");
}

}  // namespace qlora::kernels::cuda
