#include "qlora/kernels/adamw.h"

#include "adamw_math.h"
#include "convert.h"
#include "largest_magnitude.h"
#include "nearest_code.h"
#include "qlora/base/error.h"
#include "qlora/base/parallel.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace qlora::kernels {
namespace {

AdamWScalars scalars_8bit(const AdamWStep& step) {
  const auto lr = static_cast<float>(step.lr);
  const auto beta1 = static_cast<float>(step.beta1);
  const auto beta2 = static_cast<float>(step.beta2);
  const auto t = static_cast<double>(step.step);
  const auto c1 = static_cast<float>(1 - std::pow(double{beta1}, t));
  const auto c2 = static_cast<float>(std::sqrt(1 - std::pow(double{beta2}, t)));
  return {.beta1 = beta1,
          .one_minus_beta1 = 1 - beta1,
          .beta2 = beta2,
          .one_minus_beta2 = 1 - beta2,
          .step_size = -lr * c2 / c1,
          .root_divisor = 1,
          .eps = c2 * static_cast<float>(step.eps),
          .keep = 1 - lr * static_cast<float>(step.weight_decay)};
}

AdamWScalars scalars_32bit(const AdamWStep& step) {
  const auto t = static_cast<double>(step.step);
  return {.beta1 = static_cast<float>(step.beta1),
          .one_minus_beta1 = static_cast<float>(1 - step.beta1),
          .beta2 = static_cast<float>(step.beta2),
          .one_minus_beta2 = static_cast<float>(1 - step.beta2),
          .step_size = static_cast<float>(-step.lr / (1 - std::pow(step.beta1, t))),
          .root_divisor = static_cast<float>(std::sqrt(1 - std::pow(step.beta2, t))),
          .eps = static_cast<float>(step.eps),
          .keep = static_cast<float>(1 - step.lr * step.weight_decay)};
}

}  // namespace

StepScalars scalars_of(const AdamWStep& step) {
  QLORA_ASSERT(step.step >= 1);
  return {.eight_bit = scalars_8bit(step), .full = scalars_32bit(step)};
}

namespace cpu {
namespace {

using Values = std::array<float, kAdamWBlock>;

// Elements [start, start + count) of a tensor: at most one block, whose first is `start`.
struct Run {
  const AdamWTensor& tensor;
  std::int64_t start;
  std::int64_t count;
};

void load_moments(const std::uint8_t* codes, float absmax, const Table<256>& map, std::int64_t n,
                  Values& values) {
  for (std::int64_t i = 0; i < n; ++i) values[i] = map[codes[i]] * absmax;
}

template <int kZero>
void store_moments(const Values& values, std::int64_t n, const CodeFinder<kZero>& finder,
                   std::uint8_t* codes, float* absmax) {
  *absmax = largest_magnitude(values.data(), n);
  for (std::int64_t i = 0; i < n; ++i) {
    const int code = finder.moment_code(values[i], relative_magnitude(values[i], *absmax));
    codes[i] = static_cast<std::uint8_t>(code);
  }
}

template <class T>
void update_8bit_run(const Run& run, const Values& grad, Values& param, const AdamWScalars& s) {
  auto* m_codes = static_cast<std::uint8_t*>(run.tensor.m) + run.start;
  auto* v_codes = static_cast<std::uint8_t*>(run.tensor.v) + run.start;
  float* m_absmax = run.tensor.m_absmax + run.start / kAdamWBlock;
  float* v_absmax = run.tensor.v_absmax + run.start / kAdamWBlock;
  Values m;
  Values v;
  load_moments(m_codes, *m_absmax, kSignedMap, run.count, m);
  load_moments(v_codes, *v_absmax, kUnsignedMap, run.count, v);
  const float keep = run.tensor.decay ? s.keep : 1;
  for (std::int64_t i = 0; i < run.count; ++i) {
    if (is_usable(grad[i])) {
      advance_8bit(grad[i], m[i], v[i], s);
      param[i] = moved_8bit<T>(param[i], m[i], v[i], s, keep, Ieee{});
    } else {
      m[i] = v[i] = 0;
    }
  }
  store_moments(m, run.count, kSignedFinder, m_codes, m_absmax);
  store_moments(v, run.count, kUnsignedFinder, v_codes, v_absmax);
}

template <class T>
void update_32bit_run(const Run& run, const Values& grad, Values& param, const AdamWScalars& s) {
  auto* m = static_cast<float*>(run.tensor.m) + run.start;
  auto* v = static_cast<float*>(run.tensor.v) + run.start;
  const float keep = run.tensor.decay ? s.keep : 1;
  for (std::int64_t i = 0; i < run.count; ++i) {
    param[i] = update_32bit<T>(param[i], grad[i], m[i], v[i], s, keep);
  }
}

void write_copy(const Run& run, const Values& param) {
  const ComputeCopy& copy = run.tensor.copy;
  with_element(copy.dtype, "adamw", [&](auto element) {
    using T = decltype(element);
    for (std::int64_t i = 0; i < run.count; ++i) {
      static_cast<T*>(copy.data)[copy_index(copy, run.start + i)] =
          from_float<T>(param[i] * copy.scale);
    }
  });
}

void update(const Run& run, float factor, const StepScalars& scalars) {
  const AdamWTensor& t = run.tensor;
  Values param;
  Values grad;
  load_floats(t.param_dtype, t.param, run.start, run.count, param.data());
  load_floats(t.grad_dtype, t.grad, run.start, run.count, grad.data());
  for (std::int64_t i = 0; i < run.count; ++i) grad[i] *= factor;
  with_element(t.param_dtype, "adamw", [&](auto element) {
    using T = decltype(element);
    if (t.eight_bit()) {
      update_8bit_run<T>(run, grad, param, scalars.eight_bit);
    } else {
      update_32bit_run<T>(run, grad, param, scalars.full);
    }
  });
  store_floats(t.param_dtype, param.data(), run.count, t.param, run.start);
  if (t.copy.data != nullptr) write_copy(run, param);
}

void zero_gradient(const Run& run) {
  const auto size = static_cast<std::int64_t>(size_of(run.tensor.grad_dtype));
  std::memset(static_cast<std::byte*>(run.tensor.grad) + run.start * size, 0,
              static_cast<std::size_t>(run.count * size));
}

}  // namespace

void adamw(const AdamWTable& table, const AdamWStep& step, const GradientNorm* norm, Stream) {
  const StepScalars scalars = scalars_of(step);
  parallel_for(table.chunk_count, 1, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t c = first; c < last; ++c) {
      const AdamWTensor& tensor = table.tensors[table.owners[c]];
      const std::int64_t begin = (c - tensor.first_chunk) * kAdamWChunk;
      const std::int64_t end = std::min(begin + kAdamWChunk, tensor.n);
      for (std::int64_t start = begin; start < end; start += kAdamWBlock) {
        const Run run{tensor, start, std::min(kAdamWBlock, end - start)};
        if (norm->finite) update(run, norm->factor, scalars);
        if (step.zero_gradients) zero_gradient(run);
      }
    }
  });
}

}  // namespace cpu
}  // namespace qlora::kernels
