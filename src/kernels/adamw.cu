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
// from 128 + 4 * lane. kWide: all exist, and are read and written four at a time.
template <bool kWide>
struct Run {
  const AdamWTensor& tensor;
  std::int64_t start;
  int count;
};

// Tells the compiler what it cannot see of a pointer that comes from a table: it is to global
// memory.
template <class T>
__device__ T* global(T* pointer) {
  __builtin_assume(__isGlobal(pointer));
  return pointer;
}

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
template <class T, bool kWide, class V>
__device__ void load(const Run<kWide>& run, const void* all, V (&values)[kPerLane]) {
  const T* x = global(static_cast<const T*>(all) + run.start);
  if constexpr (kWide) {
#pragma unroll
    for (int k = 0; k < kPerLane; k += 4) load4(x + place_of(k), values + k);
  } else {
#pragma unroll
    for (int k = 0; k < kPerLane; ++k) {
      values[k] = place_of(k) < run.count ? widened(x[place_of(k)]) : V{0};
    }
  }
}

template <class T, bool kWide, class V>
__device__ void store(const Run<kWide>& run, const V (&values)[kPerLane], void* all) {
  T* x = global(static_cast<T*>(all) + run.start);
  if constexpr (kWide) {
#pragma unroll
    for (int k = 0; k < kPerLane; k += 4) store4(values + k, x + place_of(k));
  } else {
#pragma unroll
    for (int k = 0; k < kPerLane; ++k) {
      if (place_of(k) < run.count) assign(x[place_of(k)], values[k]);
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

// The codes of moments, and their largest magnitude, which becomes their scale.
template <int kZero>
__device__ float encode(const float (&values)[kPerLane], const CodeFinder<kZero>& finder,
                        int (&codes)[kPerLane]) {
  float largest = 0;
#pragma unroll
  for (const float value : values) largest = fmaxf(largest, fabsf(value));
  largest = warp_largest(largest);
  const auto find = [&](const auto& relative) {
#pragma unroll
    for (int k = 0; k < kPerLane; ++k) {
      codes[k] = finder.moment_code(values[k], relative(values[k]));
    }
  };
  // A remainder may then lose bits to underflow only where the quotient is so small that its code
  // is that of 0.
  if (largest >= 0x1p-78f && largest <= 0x1p125f) {
    const float reciprocal = 1 / largest;
    find([&](float value) { return Quick::refined(fabsf(value), largest, reciprocal); });
  } else {
    find([&](float value) { return relative_magnitude(value, largest); });
  }
  return largest;
}

template <class C, bool kWide>
__device__ void write_copy(const Run<kWide>& run, const float (&param)[kPerLane]) {
  const ComputeCopy& copy = run.tensor.copy;
  C* data = global(static_cast<C*>(copy.data));
  const bool wide = kWide && (copy.first | copy.columns | copy.pitch) % 4 == 0 &&
                    reinterpret_cast<std::uintptr_t>(data) % 16 == 0;
  if (wide) {
#pragma unroll
    for (int k = 0; k < kPerLane; k += 4) {
      float values[4];
      for (int i = 0; i < 4; ++i) values[i] = param[k + i] * copy.scale;
      store4(values, data + copy_index(copy, run.start + place_of(k)));
    }
    return;
  }
  // An array that a rolled loop indexes lies in local memory: one of its own, so that the
  // parameters stay in registers.
  float values[kPerLane];
#pragma unroll
  for (int k = 0; k < kPerLane; ++k) values[k] = param[k] * copy.scale;
#pragma unroll 1
  for (int k = 0; k < kPerLane && place_of(k) < run.count; ++k) {
    data[copy_index(copy, run.start + place_of(k))] = from_float<C>(values[k]);
  }
}

template <bool kWide>
__device__ void write_copy(const Run<kWide>& run, const float (&param)[kPerLane]) {
  const ComputeCopy& copy = run.tensor.copy;
  if (copy.data == nullptr) return;
  switch (copy.dtype) {
    case DType::Float16: return write_copy<Float16>(run, param);
    case DType::BFloat16: return write_copy<BFloat16>(run, param);
    default: return write_copy<float>(run, param);
  }
}

template <class P, class G, bool kWide>
__device__ void update_8bit_run(const Run<kWide>& run, const AdamWScalars& s, float factor,
                                const Tables& tables) {
  const AdamWTensor& t = run.tensor;
  // Not to be read again behind the first store.
  void* const param_at = t.param;
  void* const m_at = t.m;
  void* const v_at = t.v;
  float* const m_scale = global(t.m_absmax + run.start / kAdamWBlock);
  float* const v_scale = global(t.v_absmax + run.start / kAdamWBlock);
  const float keep = t.decay ? s.keep : 1;
  float param[kPerLane], grad[kPerLane];
  int m_codes[kPerLane], v_codes[kPerLane];
  load<std::uint8_t>(run, m_at, m_codes);
  load<std::uint8_t>(run, v_at, v_codes);
  const float m_absmax = *m_scale;
  const float v_absmax = *v_scale;
  load<G>(run, t.grad, grad);
  load<P>(run, param_at, param);
  float m[kPerLane], v[kPerLane];
  Range range;
#pragma unroll
  for (int k = 0; k < kPerLane; ++k) {
    grad[k] *= factor;
    m[k] = tables.signed_map[m_codes[k]] * m_absmax;
    v[k] = tables.unsigned_map[v_codes[k]] * v_absmax;
    advance_8bit(grad[k], m[k], v[k], s);
    range.add(grad[k], m[k], v[k]);
  }
  const bool quick = range.is_middling(m_absmax, v_absmax, s.eps);
  if (kWide && __all_sync(0xffffffffu, quick)) {
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
  store<P>(run, param, param_at);
  write_copy(run, param);
  const float m_largest = encode(m, tables.signed_finder, m_codes);
  store<std::uint8_t>(run, m_codes, m_at);
  const float v_largest = encode(v, tables.unsigned_finder, v_codes);
  store<std::uint8_t>(run, v_codes, v_at);
  if (threadIdx.x % kWarp == 0) {
    *m_scale = m_largest;
    *v_scale = v_largest;
  }
}

template <class P, class G, bool kWide>
__device__ void update_32bit_run(const Run<kWide>& run, const AdamWScalars& s, float factor) {
  const AdamWTensor& t = run.tensor;
  const float keep = t.decay ? s.keep : 1;
  float param[kPerLane], grad[kPerLane], m[kPerLane], v[kPerLane];
  load<P>(run, t.param, param);
  load<G>(run, t.grad, grad);
  load<float>(run, t.m, m);
  load<float>(run, t.v, v);
#pragma unroll
  for (int k = 0; k < kPerLane; ++k) {
    param[k] = update_32bit<P>(param[k], grad[k] * factor, m[k], v[k], s, keep);
  }
  store<float>(run, m, t.m);
  store<float>(run, v, t.v);
  store<P>(run, param, t.param);
  write_copy(run, param);
}

template <class G, bool kWide>
__device__ void zero_gradient(const Run<kWide>& run) {
  const float zeros[kPerLane] = {};
  store<G>(run, zeros, run.tensor.grad);
}

// What a launch does to every run.
struct Update {
  StepScalars scalars;
  float factor;
  bool finite;
  bool zero_gradients;
};

template <class P, class G, bool kWide>
__device__ void update_run(const Run<kWide>& run, const Update& update, const Tables& tables) {
  if (update.finite && run.tensor.eight_bit()) {
    update_8bit_run<P, G>(run, update.scalars.eight_bit, update.factor, tables);
  } else if (update.finite) {
    update_32bit_run<P, G>(run, update.scalars.full, update.factor);
  }
  if (update.zero_gradients) zero_gradient<G>(run);
}

template <class P, bool kWide>
__device__ void update_run(const Run<kWide>& run, const Update& update, const Tables& tables) {
  if (run.tensor.grad_dtype == DType::Float32) {
    update_run<P, float>(run, update, tables);
  } else {
    update_run<P, P>(run, update, tables);
  }
}

template <bool kWide>
__device__ void update_run(const Run<kWide>& run, const Update& update, const Tables& tables) {
  switch (run.tensor.param_dtype) {
    case DType::Float16: return update_run<Float16>(run, update, tables);
    case DType::BFloat16: return update_run<BFloat16>(run, update, tables);
    default: return update_run<float, float>(run, update, tables);
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
  const Update update{scalars, norm->factor, norm->finite, zero_gradients};
  if (!update.finite && !zero_gradients) return;
  const std::int64_t tiles = table.chunk_count * kTilesPerChunk;
  for (std::int64_t tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    const AdamWTensor& t = table.tensors[table.owners[tile / kTilesPerChunk]];
    const std::int64_t start =
        (tile - t.first_chunk * kTilesPerChunk) * kTile + threadIdx.x / kWarp * kAdamWBlock;
    if (start >= t.n) continue;
    if (t.aligned && t.n - start >= kAdamWBlock) {
      update_run(Run<true>{t, start, kAdamWBlock}, update, tables);
    } else {
      const std::int64_t left = t.n - start;
      const int count = static_cast<int>(left < kAdamWBlock ? left : kAdamWBlock);
      update_run(Run<false>{t, start, count}, update, tables);
    }
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
