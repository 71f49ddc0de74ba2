#include "launch.cuh"
#include "rms_norm_math.h"
#include "rope_math.h"
#include "run.cuh"

#include <bit>

namespace qlora::kernels::cuda {
namespace {

constexpr int kThreads = 256;
// Heads of a token that a thread turns by the same angles.
constexpr int kHeads = 4;

// 2^lane_bits neighbouring threads share kHeads heads of one token; lane l has run l of either half
// of each.
struct Plan {
  HeadShape shape;
  RopeAngles angles;
  int lane_bits;
  unsigned groups;  // of kHeads heads
};

// What one thread works on.
struct Place {
  std::int64_t token;
  int head;    // the first
  int heads;   // how many; 0: the thread has no work
  int column;  // of its run within a half
  int half;

  __device__ Place(const Plan& plan, int width) {
    const unsigned item = (blockIdx.x * kThreads + threadIdx.x) >> plan.lane_bits;
    const unsigned lane = threadIdx.x & ((1u << plan.lane_bits) - 1);
    token = item / plan.groups;
    head = static_cast<int>(item % plan.groups) * kHeads;
    half = static_cast<int>(plan.shape.head_dim / 2);
    column = static_cast<int>(lane) * width;
    heads = min(kHeads, static_cast<int>(plan.shape.heads) - head);
    if (token >= plan.shape.tokens || column >= half) heads = column = 0, token = 0;
  }
};

// A thread's part of one head in float32.
template <int kWidth>
struct Pair {
  float low[kWidth];
  float high[kWidth];
};

// A thread's parts of all its heads, as they lie in memory; zeros for heads that it does not have.
template <class T, int kWidth>
struct HeadRuns {
  Run<T, kWidth> low[kHeads];
  Run<T, kWidth> high[kHeads];

  __device__ HeadRuns(ConstRows x, const Place& place) {
    const T* first = row_of<T>(x, place.token) + place.head * 2 * place.half + place.column;
#pragma unroll
    for (int k = 0; k < kHeads; ++k) {
      const T* head = first + k * 2 * place.half;
      low[k] = k < place.heads ? Run<T, kWidth>::load(head) : Run<T, kWidth>{};
      high[k] = k < place.heads ? Run<T, kWidth>::load(head + place.half) : Run<T, kWidth>{};
    }
  }
  __device__ Pair<kWidth> operator[](int k) const {
    Pair<kWidth> pair;
    low[k].unpack(pair.low);
    high[k].unpack(pair.high);
    return pair;
  }
};

template <class T, int kWidth>
__device__ void store_head(const Pair<kWidth>& pair, int k, const Place& place, Rows out) {
  T* head = row_of<T>(out, place.token) + (place.head + k) * 2 * place.half + place.column;
  store_run(pair.low, head);
  store_run(pair.high, head + place.half);
}

template <int kWidth>
struct Angles {
  float cos[kWidth];
  float sin[kWidth];

  __device__ Angles(const RopeAngles& angles, int position, const Place& place) {
    const std::int64_t first = std::int64_t{position} * place.half + place.column;
#pragma unroll
    for (int i = 0; i < kWidth; i += 4) {
      load4(angles.cos + first + i, cos + i);
      load4(angles.sin + first + i, sin + i);
    }
  }
  __device__ static void load4(const float* x, float* values) {
    const float4 raw = *reinterpret_cast<const float4*>(x);
    values[0] = raw.x, values[1] = raw.y, values[2] = raw.z, values[3] = raw.w;
  }
  // sign: of sin
  __device__ void turn_pair(Pair<kWidth>& pair, float sign) const {
#pragma unroll
    for (int i = 0; i < kWidth; ++i) turn(pair.low[i], pair.high[i], cos[i], sign * sin[i]);
  }
};

template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads)
    rope_kernel(ConstRows x, Plan plan, float sign, Rows out) {
  const Place place(plan, kWidth);
  if (place.heads == 0) return;
  const int position = plan.angles.positions[place.token];
  const HeadRuns<T, kWidth> held(x, place);
  const Angles<kWidth> angles(plan.angles, position, place);
#pragma unroll
  for (int k = 0; k < kHeads; ++k) {
    if (k >= place.heads) break;
    Pair<kWidth> pair = held[k];
    angles.turn_pair(pair, sign);
    store_head<T>(pair, k, place, out);
  }
}

// Of the weight of head k of the place.
template <class T, int kWidth>
__device__ Pair<kWidth> load_weight(const HeadNorm& norm, int k, const Place& place) {
  const void* of_head = place.head + k < norm.query_heads ? norm.query_weight : norm.key_weight;
  const T* weight = static_cast<const T*>(of_head) + place.column;
  Pair<kWidth> pair;
  Run<T, kWidth>::load(weight).unpack(pair.low);
  Run<T, kWidth>::load(weight + place.half).unpack(pair.high);
  return pair;
}

// The mean over a head, whose lanes each hold a part of the sum, in all of them. Takes all threads
// of the block.
__device__ float head_mean(float sum, const Plan& plan) {
  for (int step = (1 << plan.lane_bits) / 2; step > 0; step /= 2) {
    sum += __shfl_xor_sync(0xffffffffu, sum, step);
  }
  return sum / static_cast<float>(plan.shape.head_dim);
}

template <int kWidth>
__device__ float head_rstd(const Pair<kWidth>& x, const Plan& plan, float eps) {
  float sum = 0;
#pragma unroll
  for (int i = 0; i < kWidth; ++i) sum += x.low[i] * x.low[i] + x.high[i] * x.high[i];
  return 1.0f / sqrtf(head_mean(sum, plan) + eps);
}

template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads)
    head_norm_rope_kernel(ConstRows x, Plan plan, HeadNorm norm, Rows out) {
  const Place place(plan, kWidth);
  const int position = plan.angles.positions[place.token];
  const HeadRuns<T, kWidth> held(x, place);
  const Angles<kWidth> angles(plan.angles, position, place);
#pragma unroll
  for (int k = 0; k < kHeads; ++k) {
    Pair<kWidth> pair = held[k];
    const Pair<kWidth> weight = load_weight<T, kWidth>(norm, k, place);
    const float rstd = head_rstd(pair, plan, norm.eps);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      pair.low[i] = rms_normed(pair.low[i], rstd, weight.low[i]);
      pair.high[i] = rms_normed(pair.high[i], rstd, weight.high[i]);
    }
    angles.turn_pair(pair, 1);
    if (k < place.heads) store_head<T>(pair, k, place, out);
  }
}

template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads)
    head_norm_rope_backward_kernel(ConstRows dy, ConstRows x, Plan plan, HeadNorm norm, Rows dx) {
  const Place place(plan, kWidth);
  const int position = plan.angles.positions[place.token];
  const HeadRuns<T, kWidth> held_dy(dy, place);
  const HeadRuns<T, kWidth> held_x(x, place);
  const Angles<kWidth> angles(plan.angles, position, place);
#pragma unroll
  for (int k = 0; k < kHeads; ++k) {
    Pair<kWidth> g = held_dy[k];
    const Pair<kWidth> input = held_x[k];
    const Pair<kWidth> weight = load_weight<T, kWidth>(norm, k, place);
    angles.turn_pair(g, -1);
    const float rstd = head_rstd(input, plan, norm.eps);
    float sum = 0;
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      sum += g.low[i] * weight.low[i] * input.low[i] + g.high[i] * weight.high[i] * input.high[i];
    }
    const float slope = head_mean(sum, plan) * rstd * rstd;
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      g.low[i] = rms_norm_dx(g.low[i], input.low[i], weight.low[i], rstd, slope);
      g.high[i] = rms_norm_dx(g.high[i], input.high[i], weight.high[i], rstd, slope);
    }
    if (k < place.heads) store_head<T>(g, k, place, dx);
  }
}

// Launches body(element, width of a run, plan, grid).
template <class Body>
void with_plan(DType dtype, const char* kernel, const HeadShape& shape, const RopeAngles& angles,
               const Body& body) {
  with_element(dtype, kernel, [&](auto element) {
    using T = decltype(element);
    const auto launch = [&](auto width) {
      const auto runs = static_cast<unsigned>(shape.head_dim / 2 / width);
      const int lane_bits = std::bit_width(runs - 1);
      const unsigned groups = grid_for(shape.heads, kHeads);
      const unsigned grid = grid_for(shape.tokens * groups, kThreads >> lane_bits);
      body(element, width, Plan{shape, angles, lane_bits, groups}, grid);
    };
    if (shape.head_dim % (2 * kUnit<T>) == 0) {
      launch(std::integral_constant<int, kUnit<T>>{});
    } else {
      launch(std::integral_constant<int, 4>{});
    }
  });
  check_launch(kernel);
}

}  // namespace

void rope(ConstRows x, DType dtype, const HeadShape& shape, const RopeAngles& angles,
          RopeDirection direction, Rows out, Stream stream) {
  if (shape.tokens == 0 || shape.heads == 0) return;
  check_heads(x, shape);
  check_heads(out, shape);
  const float sign = sign_of(direction);
  with_plan(dtype, "rope", shape, angles,
            [&](auto element, auto width, const Plan& plan, unsigned grid) {
              rope_kernel<decltype(element), width>
                  <<<grid, kThreads, 0, as_cuda(stream)>>>(x, plan, sign, out);
            });
}

void head_norm_rope(ConstRows x, DType dtype, const HeadShape& shape, const HeadNorm& norm,
                    const RopeAngles& angles, Rows out, Stream stream) {
  if (shape.tokens == 0 || shape.heads == 0) return;
  check_heads(x, shape);
  check_heads(out, shape);
  with_plan(dtype, "head_norm_rope", shape, angles,
            [&](auto element, auto width, const Plan& plan, unsigned grid) {
              head_norm_rope_kernel<decltype(element), width>
                  <<<grid, kThreads, 0, as_cuda(stream)>>>(x, plan, norm, out);
            });
}

void head_norm_rope_backward(ConstRows dy, ConstRows x, DType dtype, const HeadShape& shape,
                             const HeadNorm& norm, const RopeAngles& angles, Rows dx,
                             Stream stream) {
  if (shape.tokens == 0 || shape.heads == 0) return;
  check_heads(dy, shape);
  check_heads(x, shape);
  check_heads(dx, shape);
  with_plan(dtype, "head_norm_rope_backward", shape, angles,
            [&](auto element, auto width, const Plan& plan, unsigned grid) {
              head_norm_rope_backward_kernel<decltype(element), width>
                  <<<grid, kThreads, 0, as_cuda(stream)>>>(dy, x, plan, norm, dx);
            });
}

}  // namespace qlora::kernels::cuda
