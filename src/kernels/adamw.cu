#include "qlora/kernels/adamw.h"

#include "adamw_math.h"
#include "launch.cuh"
#include "qlora/kernels/dynamic_maps.h"

namespace qlora::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;
constexpr int kPerLane = kAdamWBlock / kWarp;

__device__ const Table<256> signed_map = kSignedMap;
__device__ const Table<256> unsigned_map = kUnsignedMap;

// Stores a block's moments, kPerLane to a lane; `first` is the lane's first element in the block.
__device__ void store_moments(const float (&values)[kPerLane], int first, int count,
                              const float* map, std::uint8_t* codes, float* absmax) {
  float largest = 0;
  for (const float value : values) {
    if (fabsf(value) > largest) largest = fabsf(value);
  }
  largest = warp_largest(largest);
  if (first == 0) *absmax = largest;
#pragma unroll
  for (int k = 0; k < kPerLane; ++k) {
    const int i = first + k * kWarp;
    if (i >= count) break;
    const std::uint8_t code = nearest_code(relative_moment(values[k], largest), map);
    codes[i] = repair_sign(code, values[k], map);
  }
}

// One warp per block of 256 elements; lane l takes elements l, l + 32, ...
template <class P, class G>
__global__ void adamw_8bit_kernel(AdamW8bitState state, P* param, const G* grad, std::int64_t n,
                                  AdamWScalars scalars) {
  __shared__ float m_map[256];
  __shared__ float v_map[256];
  m_map[threadIdx.x] = signed_map[threadIdx.x];
  v_map[threadIdx.x] = unsigned_map[threadIdx.x];
  __syncthreads();
  const std::int64_t block = std::int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarp;
  const std::int64_t start = block * kAdamWBlock;
  if (start >= n) return;
  const int count = static_cast<int>(n - start < kAdamWBlock ? n - start : kAdamWBlock);
  const int lane = threadIdx.x % kWarp;
  const float m_absmax = state.m_absmax[block];
  const float v_absmax = state.v_absmax[block];

  float m[kPerLane] = {};
  float v[kPerLane] = {};
#pragma unroll
  for (int k = 0; k < kPerLane; ++k) {
    const int i = lane + k * kWarp;
    if (i >= count) break;
    m[k] = m_map[state.m_codes[start + i]] * m_absmax;
    v[k] = v_map[state.v_codes[start + i]] * v_absmax;
    param[start + i] =
        update_8bit(param[start + i], to_float(grad[start + i]), m[k], v[k], scalars);
  }
  store_moments(m, lane, count, m_map, state.m_codes + start, state.m_absmax + block);
  store_moments(v, lane, count, v_map, state.v_codes + start, state.v_absmax + block);
}

template <class P, class G>
__global__ void adamw_32bit_kernel(AdamW32bitState state, P* param, const G* grad, std::int64_t n,
                                   AdamWScalars scalars) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= n) return;
  float m = state.m[i];
  float v = state.v[i];
  param[i] = update_32bit(param[i], to_float(grad[i]), m, v, scalars);
  state.m[i] = m;
  state.v[i] = v;
}

}  // namespace

void adamw_8bit(const AdamW8bitState& state, void* param, DType param_dtype, const void* grad,
                DType grad_dtype, std::int64_t n, const AdamWStep& step, Stream stream) {
  if (n == 0) return;
  const AdamWScalars scalars = scalars_8bit(step);
  with_param_and_grad(param_dtype, grad_dtype, "adamw_8bit", [&](auto p, auto g) {
    const unsigned grid = grid_for(n, kAdamWBlock * kWarps);
    adamw_8bit_kernel<<<grid, kThreads, 0, as_cuda(stream)>>>(
        state, static_cast<decltype(p)*>(param), static_cast<const decltype(g)*>(grad), n, scalars);
  });
  check_launch("adamw_8bit");
}

void adamw_32bit(const AdamW32bitState& state, void* param, DType param_dtype, const void* grad,
                 DType grad_dtype, std::int64_t n, const AdamWStep& step, Stream stream) {
  if (n == 0) return;
  const AdamWScalars scalars = scalars_32bit(step);
  with_param_and_grad(param_dtype, grad_dtype, "adamw_32bit", [&](auto p, auto g) {
    adamw_32bit_kernel<<<grid_for(n, kThreads), kThreads, 0, as_cuda(stream)>>>(
        state, static_cast<decltype(p)*>(param), static_cast<const decltype(g)*>(grad), n, scalars);
  });
  check_launch("adamw_32bit");
}

}  // namespace qlora::kernels::cuda
