#include "qlora/kernels/adamw.h"

#include "adamw_math.h"
#include "convert.h"
#include "largest_magnitude.h"
#include "qlora/base/error.h"
#include "qlora/base/narrow.h"
#include "qlora/base/parallel.h"
#include "qlora/kernels/dynamic_maps.h"

#include <algorithm>
#include <array>

namespace qlora::kernels {

AdamWScalars scalars_8bit(const AdamWStep& step) {
  QLORA_ASSERT(step.step >= 1);
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
          .keep = 1 - lr * static_cast<float>(step.weight_decay),
          .decays = step.weight_decay > 0,
          .grad_scale = static_cast<float>(step.grad_scale)};
}

AdamWScalars scalars_32bit(const AdamWStep& step) {
  QLORA_ASSERT(step.step >= 1);
  const auto t = static_cast<double>(step.step);
  return {.beta1 = static_cast<float>(step.beta1),
          .one_minus_beta1 = static_cast<float>(1 - step.beta1),
          .beta2 = static_cast<float>(step.beta2),
          .one_minus_beta2 = static_cast<float>(1 - step.beta2),
          .step_size = static_cast<float>(-step.lr / (1 - std::pow(step.beta1, t))),
          .root_divisor = static_cast<float>(std::sqrt(1 - std::pow(step.beta2, t))),
          .eps = static_cast<float>(step.eps),
          .keep = static_cast<float>(1 - step.lr * step.weight_decay),
          .decays = step.weight_decay > 0,
          .grad_scale = static_cast<float>(step.grad_scale)};
}

namespace cpu {
namespace {

using Moments = std::array<float, kAdamWBlock>;

void load_moments(const std::uint8_t* codes, float absmax, const float* map, std::int64_t n,
                  Moments& values) {
  for (std::int64_t i = 0; i < n; ++i) values[i] = map[codes[i]] * absmax;
}

void store_moments(const Moments& values, std::int64_t n, const float* map,
                   const CodeFinder& finder, std::uint8_t* codes, float* absmax) {
  *absmax = largest_magnitude(values.data(), n);
  for (std::int64_t i = 0; i < n; ++i) {
    const std::uint8_t code = finder.find(relative_moment(values[i], *absmax));
    codes[i] = repair_sign(code, values[i], map);
  }
}

template <class T>
void update_block(const AdamW8bitState& state, T* param, const float* grad, std::int64_t block,
                  std::int64_t n, const AdamWScalars& scalars) {
  Moments m;
  Moments v;
  const std::int64_t start = block * kAdamWBlock;
  load_moments(state.m_codes + start, state.m_absmax[block], kSignedMap.values, n, m);
  load_moments(state.v_codes + start, state.v_absmax[block], kUnsignedMap.values, n, v);
  for (std::int64_t i = 0; i < n; ++i) {
    param[i] = update_8bit(param[i], grad[i], m[i], v[i], scalars);
  }
  store_moments(m, n, kSignedMap.values, signed_finder(), state.m_codes + start,
                state.m_absmax + block);
  store_moments(v, n, kUnsignedMap.values, unsigned_finder(), state.v_codes + start,
                state.v_absmax + block);
}

// body(param's element type, first element, count, gradient as float32) for every block of 256.
template <class Body>
void for_blocks(DType param_dtype, const void* grad, DType grad_dtype, std::int64_t n,
                const char* kernel, const Body& body) {
  with_param_and_grad(param_dtype, grad_dtype, kernel, [&](auto element, auto) {
    parallel_for(div_up(n, kAdamWBlock), 32, [&](std::int64_t first, std::int64_t last) {
      std::array<float, kAdamWBlock> gradient;
      for (std::int64_t b = first; b < last; ++b) {
        const std::int64_t start = b * kAdamWBlock;
        const std::int64_t count = std::min(kAdamWBlock, n - start);
        load_floats(grad_dtype, grad, start, count, gradient.data());
        body(element, start, count, gradient.data());
      }
    });
  });
}

}  // namespace

void adamw_8bit(const AdamW8bitState& state, void* param, DType param_dtype, const void* grad,
                DType grad_dtype, std::int64_t n, const AdamWStep& step, Stream) {
  const AdamWScalars scalars = scalars_8bit(step);
  for_blocks(param_dtype, grad, grad_dtype, n, "adamw_8bit",
             [&](auto element, std::int64_t start, std::int64_t count, const float* gradient) {
               auto* target = static_cast<decltype(element)*>(param) + start;
               update_block(state, target, gradient, start / kAdamWBlock, count, scalars);
             });
}

void adamw_32bit(const AdamW32bitState& state, void* param, DType param_dtype, const void* grad,
                 DType grad_dtype, std::int64_t n, const AdamWStep& step, Stream) {
  const AdamWScalars scalars = scalars_32bit(step);
  for_blocks(param_dtype, grad, grad_dtype, n, "adamw_32bit",
             [&](auto element, std::int64_t start, std::int64_t count, const float* gradient) {
               auto* target = static_cast<decltype(element)*>(param) + start;
               float* m = state.m + start;
               float* v = state.v + start;
               for (std::int64_t i = 0; i < count; ++i) {
                 target[i] = update_32bit(target[i], gradient[i], m[i], v[i], scalars);
               }
             });
}

}  // namespace cpu
}  // namespace qlora::kernels
