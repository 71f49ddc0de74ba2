#include "qlora/kernels/cross_entropy.h"

#include "fast_math.cuh"
#include "lane_sum.cuh"
#include "launch.cuh"
#include "run.cuh"

#include <algorithm>

namespace qlora::kernels::cuda {
namespace {

// A row belongs to one block.
constexpr int kMaxThreads = 1024;
// Rows of at most this many bytes take half the threads, so that two of them fit on a
// multiprocessor.
constexpr std::int64_t kShortRow = 96 * 1024;
// Runs that a thread loads before it uses the first.
constexpr int kRuns = 8;
// Shared memory left to what is not the row.
constexpr int kReserved = 1024;

// exp(largest) * sum is the sum of exponentials of the logits seen so far.
struct Tally {
  float largest = -1e30f;  // finite, so that differences of two are
  float sum = 0;

  template <int kWidth>
  __device__ void add_logits(const float (&logits)[kWidth]) {
    const float before = largest;
#pragma unroll
    for (int i = 0; i < kWidth; ++i) largest = fmaxf(largest, logits[i]);
    sum *= fast_exp(before - largest);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) sum += fast_exp(logits[i] - largest);
  }
  __device__ void merge(Tally other) {
    const float larger = fmaxf(largest, other.largest);
    sum = sum * fast_exp(largest - larger) + other.sum * fast_exp(other.largest - larger);
    largest = larger;
  }
};

__device__ Tally warp_tally(Tally tally) {
  for (int step = kWarp / 2; step > 0; step /= 2) {
    tally.merge({__shfl_xor_sync(0xffffffffu, tally.largest, step),
                 __shfl_xor_sync(0xffffffffu, tally.sum, step)});
  }
  return tally;
}

// Of all threads of the block, in all of them. Call once per kernel.
__device__ Tally block_tally(Tally tally) {
  __shared__ Tally warps[kMaxThreads / kWarp];
  tally = warp_tally(tally);
  const unsigned lane = threadIdx.x % kWarp;
  if (lane == 0) warps[threadIdx.x / kWarp] = tally;
  __syncthreads();
  return warp_tally(lane < blockDim.x / kWarp ? warps[lane] : Tally{});
}

// `kept`: how many of a row's `count` runs stay in shared memory.
template <class T, int kWidth>
__global__ void __launch_bounds__(kMaxThreads)
    cross_entropy_kernel(Rows logits, int count, int kept, const std::int32_t* labels,
                         const float* scale, float* losses) {
  extern __shared__ uint4 shared[];
  using LogitRun = Run<T, kWidth>;
  auto* kept_runs = reinterpret_cast<LogitRun*>(shared);
  T* row = row_of<T>(logits, blockIdx.x);
  const int label = labels[blockIdx.x];
  const int thread = static_cast<int>(threadIdx.x);
  const int threads = static_cast<int>(blockDim.x);
  if (label == kIgnoredLabel) {
    for (int run = thread; run < count; run += threads) LogitRun{}.store(row + run * kWidth);
    if (thread == 0) losses[blockIdx.x] = 0;
    return;
  }
  const float labelled = to_float(row[label]);

  Tally tally;
  for (int first = thread; first < count; first += kRuns * threads) {
    LogitRun held[kRuns];
    load_runs(row, first, threads, count, held);
#pragma unroll
    for (int k = 0; k < kRuns; ++k) {
      const int run = first + k * threads;
      if (run >= count) break;
      if (run < kept) kept_runs[run] = held[k];
      float values[kWidth];
      held[k].unpack(values);
      tally.add_logits(values);
    }
  }
  tally = block_tally(tally);
  if (thread == 0) losses[blockIdx.x] = tally.largest - labelled + logf(tally.sum);

  const float factor = *scale / tally.sum;
  for (int first = thread; first < count; first += kRuns * threads) {
    LogitRun held[kRuns];
#pragma unroll
    for (int k = 0; k < kRuns; ++k) {
      const int run = first + k * threads;
      if (run < kept) {
        held[k] = kept_runs[run];
      } else if (run < count) {
        held[k] = LogitRun::load(row + run * kWidth);
      }
    }
#pragma unroll
    for (int k = 0; k < kRuns; ++k) {
      const int run = first + k * threads;
      if (run >= count) break;
      float values[kWidth];
      held[k].unpack(values);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) values[i] = fast_exp(values[i] - tally.largest) * factor;
      store_run(values, row + run * kWidth);
    }
  }
  if (label / kWidth % threads == thread) {
    row[label] = from_float<T>(fast_exp(labelled - tally.largest) * factor - *scale);
  }
}

// One block of kSumThreads threads.
__global__ void sum_losses_kernel(const float* losses, std::int64_t rows, double* sum) {
  const double total = block_lane_sum(rows, [&](std::int64_t r, double(&four)[4]) {
    for (int k = 0; k < 4; ++k) four[k] = r + k < rows ? losses[r + k] : 0.0f;
  });
  if (threadIdx.x == 0) *sum += total;
}

// What a block of the current device may have of shared memory for a row.
std::int64_t shared_bytes() {
  int device = 0;
  int bytes = 0;
  QLORA_CUDA(cudaGetDevice(&device));
  QLORA_CUDA(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
  return bytes - kReserved;
}

}  // namespace

void cross_entropy(Rows logits, DType dtype, std::int64_t rows, std::int64_t vocabulary,
                   const std::int32_t* labels, const float* scale, float* losses, Stream stream) {
  if (rows == 0) return;
  check_rows(logits, vocabulary);
  with_element(dtype, "cross_entropy", [&](auto element) {
    using T = decltype(element);
    with_run_width<T>(rows_are_aligned<T>(vocabulary, {logits}), [&](auto width) {
      using LogitRun = Run<T, width>;
      const auto kernel = &cross_entropy_kernel<T, width>;
      const auto count = static_cast<int>(vocabulary / width);
      const std::int64_t bytes = vocabulary * std::int64_t{sizeof(T)};
      const auto shared = static_cast<int>(LogitRun::kIsUnit ? std::min(bytes, shared_bytes()) : 0);
      const int kept = shared / static_cast<int>(sizeof(LogitRun));
      const int threads = bytes <= kShortRow ? kMaxThreads / 2 : kMaxThreads;
      QLORA_CUDA(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared));
      kernel<<<static_cast<unsigned>(rows), threads, shared, as_cuda(stream)>>>(
          logits, count, kept, labels, scale, losses);
    });
  });
  check_launch("cross_entropy");
}

void sum_losses(const float* losses, std::int64_t rows, double* sum, Stream stream) {
  if (rows == 0) return;
  sum_losses_kernel<<<1, kSumThreads, 0, as_cuda(stream)>>>(losses, rows, sum);
  check_launch("sum_losses");
}

}  // namespace qlora::kernels::cuda
