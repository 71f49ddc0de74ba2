#include "qlora/kernels/gradient_norm.h"

#include "clip.h"
#include "lane_sum.cuh"
#include "norm_workspace.h"

namespace qlora::kernels::cuda {
namespace {

// Tensors' sums that one block keeps near while it adds them.
constexpr int kStaged = 512;

template <class T>
__device__ double chunk_sum(const T* x, std::int64_t count, bool aligned) {
  return block_lane_sum(count, [&](std::int64_t i, double(&squares)[4]) {
    float values[4] = {};
    if (aligned && i + 4 <= count) {
      load4(x + i, values);
    } else {
      for (int k = 0; k < 4 && i + k < count; ++k) values[k] = to_float(x[i + k]);
    }
    for (int k = 0; k < 4; ++k) squares[k] = double{values[k]} * values[k];
  });
}

__device__ double chunk_sum(const AdamWTensor& t, std::int64_t start) {
  const std::int64_t count = t.n - start < kAdamWChunk ? t.n - start : kAdamWChunk;
  switch (t.grad_dtype) {
    case DType::Float16:
      return chunk_sum(static_cast<const Float16*>(t.grad) + start, count, t.aligned);
    case DType::BFloat16:
      return chunk_sum(static_cast<const BFloat16*>(t.grad) + start, count, t.aligned);
    default: return chunk_sum(static_cast<const float*>(t.grad) + start, count, t.aligned);
  }
}

// Stores a part of a sum and tells, in all threads, whether the block is the last of `parts` to do
// so; then it may read them all, past its L1 cache.
__device__ bool completes(double part, double* place, std::uint32_t* ticket, std::int64_t parts) {
  __shared__ bool last;
  if (threadIdx.x == 0) {
    *place = part;
    __threadfence();
    last = atomicAdd(ticket, 1u) == parts - 1;
    if (last) *ticket = 0;  // for the next launch
    __threadfence();
  }
  __syncthreads();
  return last;
}

// The tensors' sums added in order, in thread 0.
__device__ double ordered_sum(const double* parts, std::int64_t n) {
  __shared__ double staged[kStaged];
  double sum = 0;
  for (std::int64_t base = 0; base < n; base += kStaged) {
    const int count = static_cast<int>(n - base < kStaged ? n - base : kStaged);
    for (int i = threadIdx.x; i < count; i += kSumThreads) staged[i] = __ldcg(parts + base + i);
    __syncthreads();
    if (threadIdx.x == 0) {
      for (int i = 0; i < count; ++i) sum += staged[i];
    }
    __syncthreads();
  }
  return sum;
}

// One block per chunk. The last block of a tensor adds up its chunks, the last tensor's adds up
// all: which block that is changes nothing in the order of any addition.
__global__ void __launch_bounds__(kSumThreads)
    norm_kernel(AdamWTable table, ClipOptions options, NormWorkspace sums, GradientNorm* result) {
  const std::int64_t chunk = blockIdx.x;
  const std::int32_t owner = table.owners[chunk];
  const AdamWTensor& tensor = table.tensors[owner];
  const double of_chunk = chunk_sum(tensor, (chunk - tensor.first_chunk) * kAdamWChunk);
  const std::int64_t chunks = (tensor.n + kAdamWChunk - 1) / kAdamWChunk;
  if (!completes(of_chunk, sums.chunks + chunk, sums.tickets + owner, chunks)) return;

  const double* parts = sums.chunks + tensor.first_chunk;
  const double of_tensor = block_lane_sum(chunks, [&](std::int64_t i, double(&four)[4]) {
    for (int k = 0; k < 4; ++k) four[k] = i + k < chunks ? __ldcg(parts + i + k) : 0;
  });
  std::uint32_t* all = sums.tickets + table.tensor_count;
  if (!completes(of_tensor, sums.tensors + owner, all, table.tensor_count)) return;

  const double sum = ordered_sum(sums.tensors, table.tensor_count);
  if (threadIdx.x == 0) *result = clipped(sum, options);
}

}  // namespace

void gradient_norm(const AdamWTable& table, const ClipOptions& options, void* workspace,
                   GradientNorm* result, Stream stream) {
  const auto blocks = static_cast<unsigned>(table.chunk_count);
  norm_kernel<<<blocks, kSumThreads, 0, as_cuda(stream)>>>(table, options,
                                                           NormWorkspace(table, workspace), result);
  check_launch("gradient_norm");
}

}  // namespace qlora::kernels::cuda
