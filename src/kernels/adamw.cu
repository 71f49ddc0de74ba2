#include "qlora/kernels/adamw.h"

#include "adamw_math.h"
#include "launch.cuh"
#include "nearest_code.h"
#include "qlora/kernels/dynamic_maps.h"

#include <cfloat>

namespace qlora::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;
constexpr int kBlocksPerSm = 4;
constexpr int kPerLane = kAdamWBlock / kWarp;
constexpr std::int64_t kTile = kWarps * kAdamWBlock;  // elements that a CUDA block takes at a time
constexpr std::int64_t kTilesPerChunk = kAdamWChunk / kTile;

// What a CUDA block keeps near.
struct alignas(16) Tables {
  Table<256> signed_map, unsigned_map;
  CodeFinder<127> signed_finder;
  CodeFinder<0> unsigned_finder;
};

__device__ const Tables tables_in_memory = {kSignedMap, kUnsignedMap, kSignedFinder,
                                            kUnsignedFinder};

// A warp's 256 elements of a tensor, of which `count` exist. A lane has four from 4 * lane and four
// from 128 + 4 * lane.
struct Run {
  const AdamWTensor& tensor;
  std::int64_t start;
  int count;

  __device__ bool whole() const { return count == kAdamWBlock; }
  __device__ bool wide() const { return tensor.aligned && whole(); }
};

__device__ int place_of(int k) {
  return 4 * static_cast<int>(threadIdx.x % kWarp) + k % 4 + k / 4 * (kAdamWBlock / 2);
}

using kernels::load4;
using kernels::store4;

__device__ void load4(const std::uint8_t* x, int* values) {
  const auto word = *reinterpret_cast<const std::uint32_t*>(x);
  for (int k = 0; k < 4; ++k) values[k] = static_cast<int>(__byte_perm(word, 0, 0x4440 + k));
}

__device__ void store4(const int* values, std::uint8_t* x) {
  const std::uint32_t low = __byte_perm(values[0], values[1], 0x40);
  const std::uint32_t high = __byte_perm(values[2], values[3], 0x40);
  *reinterpret_cast<std::uint32_t*>(x) = __byte_perm(low, high, 0x5410);
}

__device__ int widened(std::uint8_t value) { return value; }
template <class T>
__device__ float widened(T value) {
  return to_float(value);
}

__device__ void assign(std::uint8_t& target, int value) {
  target = static_cast<std::uint8_t>(value);
}
template <class T>
__device__ void assign(T& target, float value) {
  target = from_float<T>(value);
}

// The lane's elements of `all`, 0 where there is none.
template <class T, class V>
__device__ void load(const Run& run, const T* all, V (&values)[kPerLane]) {
  const T* x = all + run.start;
#pragma unroll
  for (int k = 0; k < kPerLane; k += 4) {
    if (run.wide()) {
      load4(x + place_of(k), values + k);
    } else {
      for (int i = k; i < k + 4; ++i) {
        values[i] = place_of(i) < run.count ? widened(x[place_of(i)]) : V{0};
      }
    }
  }
}

template <class T, class V>
__device__ void store(const Run& run, const V (&values)[kPerLane], T* all) {
  T* x = all + run.start;
#pragma unroll
  for (int k = 0; k < kPerLane; k += 4) {
    if (run.wide()) {
      store4(values + k, x + place_of(k));
    } else {
      for (int i = k; i < k + 4; ++i) {
        if (place_of(i) < run.count) assign(x[place_of(i)], values[i]);
      }
    }
  }
}

// Ieee without its branches for special cases: the instructions that nvcc itself gives operands of
// middling size.
struct Quick {
  __device__ static float quotient(float a, float b) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(b));
    y = __fmaf_rn(y, __fmaf_rn(-b, y, 1), y);
    return refined(a, b, y);
  }

  __device__ static float root(float x) {
    float y;
    asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    const float root = x * y;
    return __fmaf_rn(__fmaf_rn(-root, root, x), 0.5f * y, root);
  }

  // a / b where y is 1 / b rounded: a product and its correction by the remainder.
  __device__ static float refined(float a, float b, float y) {
    const float quotient = a * y;
    return __fmaf_rn(y, __fmaf_rn(-b, quotient, a), quotient);
  }
};

// What decides whether Quick serves a lane's elements.
struct Range {
  float squares = 0;  // sum of g * g
  float least_m = FLT_MAX;
  float least_v = FLT_MAX;

  __device__ void add(float g, float m, float v) {
    squares = __fmaf_rn(g, g, squares);
    least_m = fminf(least_m, fabsf(m));
    least_v = fminf(least_v, v);
  }

  // Nothing in moved_8bit over- or underflows: 2^-80 <= |m| <= 2^61, 2^-96 <= v <= 2^81, eps <= 1.
  __device__ bool is_middling(float m_absmax, float v_absmax, float eps) const {
    return squares <= 0x1p80f && least_m >= 0x1p-80f && least_v >= 0x1p-96f &&
           m_absmax <= 0x1p60f && v_absmax <= 0x1p80f && eps <= 1;
  }
};

template <int kZero>
__device__ void store_moments(const Run& run, const float (&values)[kPerLane],
                              const CodeFinder<kZero>& finder, void* all_codes, float* all_absmax) {
  float largest = 0;
  for (const float value : values) largest = fmaxf(largest, fabsf(value));
  largest = warp_largest(largest);
  if (threadIdx.x % kWarp == 0) all_absmax[run.start / kAdamWBlock] = largest;
  float relative[kPerLane];
  // A remainder may then lose bits to underflow only where the quotient is so small that its code
  // is that of 0.
  if (largest >= 0x1p-78f && largest <= 0x1p125f) {
    const float reciprocal = 1 / largest;
    for (int k = 0; k < kPerLane; ++k) {
      relative[k] = Quick::refined(fabsf(values[k]), largest, reciprocal);
    }
  } else {
    for (int k = 0; k < kPerLane; ++k) relative[k] = relative_magnitude(values[k], largest);
  }
  int codes[kPerLane];
#pragma unroll
  for (int k = 0; k < kPerLane; ++k) codes[k] = finder.moment_code(values[k], relative[k]);
  store(run, codes, static_cast<std::uint8_t*>(all_codes));
}

template <class C>
__device__ void write_copy(const Run& run, const float (&param)[kPerLane], C* data) {
  const ComputeCopy& copy = run.tensor.copy;
  const bool wide = run.whole() && (copy.first | copy.columns | copy.pitch) % 4 == 0 &&
                    reinterpret_cast<std::uintptr_t>(data) % 16 == 0;
#pragma unroll
  for (int k = 0; k < kPerLane; k += 4) {
    float values[4];
    for (int i = 0; i < 4; ++i) values[i] = param[k + i] * copy.scale;
    if (wide) {
      store4(values, data + copy_index(copy, run.start + place_of(k)));
    } else {
      for (int i = 0; i < 4 && place_of(k + i) < run.count; ++i) {
        data[copy_index(copy, run.start + place_of(k + i))] = from_float<C>(values[i]);
      }
    }
  }
}

__device__ void write_copy(const Run& run, const float (&param)[kPerLane]) {
  const ComputeCopy& copy = run.tensor.copy;
  switch (copy.dtype) {
    case DType::Float16: return write_copy(run, param, static_cast<Float16*>(copy.data));
    case DType::BFloat16: return write_copy(run, param, static_cast<BFloat16*>(copy.data));
    default: return write_copy(run, param, static_cast<float*>(copy.data));
  }
}

template <class P>
__device__ void update_8bit_run(const Run& run, const AdamWScalars& s, const Tables& tables,
                                const float (&grad)[kPerLane], float (&param)[kPerLane]) {
  const AdamWTensor& t = run.tensor;
  int m_codes[kPerLane], v_codes[kPerLane];
  load(run, static_cast<const std::uint8_t*>(t.m), m_codes);
  load(run, static_cast<const std::uint8_t*>(t.v), v_codes);
  const float m_absmax = t.m_absmax[run.start / kAdamWBlock];
  const float v_absmax = t.v_absmax[run.start / kAdamWBlock];
  const float keep = t.decay ? s.keep : 1;
  float m[kPerLane], v[kPerLane];
  Range range;
#pragma unroll
  for (int k = 0; k < kPerLane; ++k) {
    m[k] = tables.signed_map[m_codes[k]] * m_absmax;
    v[k] = tables.unsigned_map[v_codes[k]] * v_absmax;
    advance_8bit(grad[k], m[k], v[k], s);
    range.add(grad[k], m[k], v[k]);
  }
  const bool quick = run.whole() && range.is_middling(m_absmax, v_absmax, s.eps);
  if (__all_sync(0xffffffffu, quick)) {
#pragma unroll
    for (int k = 0; k < kPerLane; ++k) {
      param[k] = moved_8bit<P>(param[k], m[k], v[k], s, keep, Quick{});
    }
  } else {
#pragma unroll
    for (int k = 0; k < kPerLane; ++k) {
      if (place_of(k) < run.count && is_usable(grad[k])) {
        param[k] = moved_8bit<P>(param[k], m[k], v[k], s, keep, Ieee{});
      } else {
        m[k] = v[k] = 0;
      }
    }
  }
  store_moments(run, m, tables.signed_finder, t.m, t.m_absmax);
  store_moments(run, v, tables.unsigned_finder, t.v, t.v_absmax);
}

template <class P>
__device__ void update_32bit_run(const Run& run, const AdamWScalars& s,
                                 const float (&grad)[kPerLane], float (&param)[kPerLane]) {
  const float keep = run.tensor.decay ? s.keep : 1;
  float m[kPerLane], v[kPerLane];
  load(run, static_cast<const float*>(run.tensor.m), m);
  load(run, static_cast<const float*>(run.tensor.v), v);
  for (int k = 0; k < kPerLane; ++k) {
    param[k] = update_32bit<P>(param[k], grad[k], m[k], v[k], s, keep);
  }
  store(run, m, static_cast<float*>(run.tensor.m));
  store(run, v, static_cast<float*>(run.tensor.v));
}

// The lane's elements of the gradient.
__device__ void load_gradient(const Run& run, float (&grad)[kPerLane]) {
  const void* all = run.tensor.grad;
  switch (run.tensor.grad_dtype) {
    case DType::Float16: return load(run, static_cast<const Float16*>(all), grad);
    case DType::BFloat16: return load(run, static_cast<const BFloat16*>(all), grad);
    default: return load(run, static_cast<const float*>(all), grad);
  }
}

__device__ void zero_gradient(const Run& run) {
  constexpr float kZeros[kPerLane] = {};
  if (run.tensor.grad_dtype == DType::Float32) {
    store(run, kZeros, static_cast<float*>(run.tensor.grad));
  } else {  // the bits of 0 are the same in both 16-bit types
    store(run, kZeros, static_cast<BFloat16*>(run.tensor.grad));
  }
}

template <class P>
__device__ void update_run(const Run& run, const StepScalars& scalars, float factor,
                           const Tables& tables) {
  const AdamWTensor& t = run.tensor;
  float param[kPerLane], grad[kPerLane];
  load(run, static_cast<const P*>(t.param), param);
  load_gradient(run, grad);
  for (float& g : grad) g *= factor;
  if (t.eight_bit()) {
    update_8bit_run<P>(run, scalars.eight_bit, tables, grad, param);
  } else {
    update_32bit_run<P>(run, scalars.full, grad, param);
  }
  store(run, param, static_cast<P*>(t.param));
  if (t.copy.data != nullptr) write_copy(run, param);
}

__device__ void update_run(const Run& run, const StepScalars& scalars, float factor,
                           const Tables& tables) {
  switch (run.tensor.param_dtype) {
    case DType::Float16: return update_run<Float16>(run, scalars, factor, tables);
    case DType::BFloat16: return update_run<BFloat16>(run, scalars, factor, tables);
    default: return update_run<float>(run, scalars, factor, tables);
  }
}

// The tables in shared memory.
__device__ const Tables& near_tables() {
  constexpr int kUnits = sizeof(Tables) / sizeof(uint4);
  __shared__ uint4 units[kUnits];
  const auto* from = reinterpret_cast<const uint4*>(&tables_in_memory);
  for (int i = threadIdx.x; i < kUnits; i += kThreads) units[i] = from[i];
  __syncthreads();
  return *reinterpret_cast<const Tables*>(units);
}

// As many blocks as run at once, so that each brings the tables near only once; one warp per
// 256 elements.
__global__ void __launch_bounds__(kThreads, kBlocksPerSm)
    adamw_kernel(AdamWTable table, StepScalars scalars, bool zero_gradients,
                 const GradientNorm* norm) {
  const Tables& tables = near_tables();
  const float factor = norm->factor;
  const bool finite = norm->finite;
  if (!finite && !zero_gradients) return;
  const std::int64_t tiles = table.chunk_count * kTilesPerChunk;
  for (std::int64_t tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    const AdamWTensor& t = table.tensors[table.owners[tile / kTilesPerChunk]];
    const std::int64_t start =
        (tile - t.first_chunk * kTilesPerChunk) * kTile + threadIdx.x / kWarp * kAdamWBlock;
    if (start >= t.n) continue;
    const Run run{t, start,
                  static_cast<int>(t.n - start < kAdamWBlock ? t.n - start : kAdamWBlock)};
    if (finite) update_run(run, scalars, factor, tables);
    if (zero_gradients) zero_gradient(run);
  }
}

}  // namespace

void adamw(const AdamWTable& table, const AdamWStep& step, const GradientNorm* norm,
           Stream stream) {
  if (table.chunk_count == 0) return;
  int device = 0;
  int processors = 0;
  QLORA_CUDA(cudaGetDevice(&device));
  QLORA_CUDA(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device));
  const std::int64_t tiles = table.chunk_count * kTilesPerChunk;
  const std::int64_t most = std::int64_t{processors} * kBlocksPerSm;
  adamw_kernel<<<static_cast<unsigned>(tiles < most ? tiles : most), kThreads, 0,
                 as_cuda(stream)>>>(table, scalars_of(step), step.zero_gradients, norm);
  check_launch("adamw");
}

}  // namespace qlora::kernels::cuda
