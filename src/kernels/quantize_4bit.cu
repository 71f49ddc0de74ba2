#include "qlora/kernels/quantize_4bit.h"

#include "checks.h"
#include "encode_4bit.h"
#include "lane_sum.cuh"
#include "launch.cuh"
#include "nearest_code.h"
#include "qlora/kernels/dynamic_maps.h"

namespace qlora::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;

__constant__ Table<15> nf4_thresholds = kNf4Thresholds;
__constant__ Table<7> fp4_thresholds = kFp4Thresholds;
// Looked up at a different place by each thread, which constant memory would serialise.
__device__ const Table<256> signed_map = kSignedMap;

template <class T>
struct alignas(2 * sizeof(T)) Pair {
  T even, odd;
};

__device__ float magnitude_or(float x, float least) {
  const float magnitude = fabsf(x);
  return magnitude > least ? magnitude : least;
}

__device__ std::uint32_t encode(QuantType type, float x) {
  return type == QuantType::NF4 ? encode_nf4(x, nf4_thresholds) : encode_fp4(x, fp4_thresholds);
}

// One warp per block of the tensor; a lane takes pairs of elements, which share a byte. The second
// pass finds its elements in the cache.
template <class T>
__global__ void quantize_kernel(QuantType type, const T* weight, std::int64_t n, std::int64_t block,
                                std::uint8_t* packed, float* absmax) {
  const std::int64_t b = std::int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarp;
  const std::int64_t start = b * block;
  if (start >= n) return;
  const int lane = threadIdx.x % kWarp;
  const int count = static_cast<int>(n - start < block ? n - start : block);
  const auto* pairs = reinterpret_cast<const Pair<T>*>(weight + start);
  const auto odd_of = [&](int j) { return 2 * j + 1 < count ? to_float(pairs[j].odd) : 0.0f; };

  float largest = 0;
  for (int j = lane; 2 * j < count; j += kWarp) {
    largest = magnitude_or(to_float(pairs[j].even), largest);
    largest = magnitude_or(odd_of(j), largest);
  }
  largest = warp_largest(largest);
  if (lane == 0) absmax[b] = largest;

  const float scale = inverse_scale(largest);
  for (int j = lane; 2 * j < count; j += kWarp) {
    const std::uint32_t even = encode(type, to_float(pairs[j].even) * scale);
    const std::uint32_t odd = encode(type, odd_of(j) * scale);
    packed[start / 2 + j] = static_cast<std::uint8_t>(even << 4 | odd);
  }
}

// One block of kSumThreads threads.
__global__ void mean_kernel(const float* values, std::int64_t n, float* mean) {
  const double sum = block_lane_sum(n, [&](std::int64_t i, double(&four)[4]) {
    for (int k = 0; k < 4; ++k) four[k] = i + k < n ? values[i + k] : 0.0f;
  });
  if (threadIdx.x == 0) *mean = static_cast<float>(sum / static_cast<double>(n));
}

// One thread per scale, one CUDA block per second-level block of 256.
__global__ void nested_kernel(const float* absmax, std::int64_t blocks, const float* offset,
                              std::uint8_t* codes, float* nested_absmax) {
  __shared__ float warps[kWarps];
  const std::int64_t i = std::int64_t{blockIdx.x} * kNestedBlock + threadIdx.x;
  const float value = i < blocks ? absmax[i] - *offset : 0.0f;
  const float of_warp = warp_largest(magnitude_or(value, 0));
  if (threadIdx.x % kWarp == 0) warps[threadIdx.x / kWarp] = of_warp;
  __syncthreads();
  float largest = 0;
  for (const float candidate : warps) largest = magnitude_or(candidate, largest);
  if (threadIdx.x == 0) nested_absmax[blockIdx.x] = largest;
  if (i < blocks) codes[i] = nearest_code(value * inverse_scale(largest), signed_map.values);
}

static_assert(kThreads == kNestedBlock, "nested_kernel has one thread per scale");

}  // namespace

void quantize_4bit(QuantType type, const void* weight, DType dtype, std::int64_t n,
                   std::int64_t block, std::uint8_t* packed, float* absmax, Stream stream) {
  check_block_size(block);
  if (n == 0) return;
  with_element(dtype, "quantize_4bit", [&](auto element) {
    using T = decltype(element);
    check_alignment(weight, sizeof(Pair<T>));
    const unsigned grid = grid_for(n, block * kWarps);
    quantize_kernel<<<grid, kThreads, 0, as_cuda(stream)>>>(type, static_cast<const T*>(weight), n,
                                                            block, packed, absmax);
  });
  check_launch("quantize_4bit");
}

void quantize_absmax(const float* absmax, std::int64_t blocks, std::uint8_t* codes,
                     float* nested_absmax, float* offset, Stream stream) {
  if (blocks == 0) return;
  mean_kernel<<<1, kSumThreads, 0, as_cuda(stream)>>>(absmax, blocks, offset);
  nested_kernel<<<grid_for(blocks, kNestedBlock), kThreads, 0, as_cuda(stream)>>>(
      absmax, blocks, offset, codes, nested_absmax);
  check_launch("quantize_absmax");
}

}  // namespace qlora::kernels::cuda
