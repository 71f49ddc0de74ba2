#include "qlora/kernels/adamw.h"

#include "kernels/support.h"
#include "qlora/base/narrow.h"
#include "qlora/kernels/dynamic_maps.h"

#include <algorithm>
#include <cmath>

namespace qlora::kernels {
namespace {

using test::Guarded;

// A parameter with its 8-bit state, in plain vectors.
struct Model {
  std::vector<float> param;
  std::vector<std::uint8_t> m_codes, v_codes;
  std::vector<float> m_absmax, v_absmax;

  Model(std::int64_t n, DType dtype) : param(test::random_floats(11, n, 0.1f)) {
    for (float& value : param) value = test::rounded(value, dtype);
    m_codes.assign(n, 0), v_codes.assign(n, 0);
    m_absmax.assign(div_up<std::int64_t>(n, 256), 0), v_absmax = m_absmax;
  }
};

std::vector<float> gradient(std::int64_t n, DType dtype, int step) {
  std::vector<float> grad = test::random_floats(100 + step, n, 0.02f);
  for (std::int64_t i = 512; i < std::min<std::int64_t>(768, n); ++i) grad[i] = 0;
  if (step == 2 && n > 300) grad[5] = std::nanf(""), grad[300] = -INFINITY;
  for (float& value : grad) value = test::rounded(value, dtype);
  return grad;
}

int nearest_by_search(float x, const Table<256>& map) {
  int best = 0;
  for (int code = 1; code < 256; ++code) {
    const float middle = (map[code - 1] + map[code]) * 0.5f;
    if (x > middle || (x == middle && code % 2 == 0)) best = code;
  }
  return best;
}

void requantize(const std::vector<float>& values, const Table<256>& map,
                std::vector<std::uint8_t>& codes, std::vector<float>& absmax) {
  std::ranges::fill(absmax, 0.0f);
  for (std::size_t i = 0; i < values.size(); ++i) {
    absmax[i / 256] = std::max(absmax[i / 256], std::fabs(values[i]));
  }
  for (std::size_t i = 0; i < values.size(); ++i) {
    const float scale = absmax[i / 256];
    int code = nearest_by_search(scale > 0 ? values[i] / scale : 0, map);
    if (std::signbit(map[code]) != std::signbit(values[i])) code += values[i] > 0 ? 1 : -1;
    codes[i] = static_cast<std::uint8_t>(code);
  }
}

// One step as C3 of bitsandbytes' CUDA kernel has it, in float32 without fused operations.
void reference_8bit(Model& model, const std::vector<float>& grad, DType dtype,
                    const AdamWStep& step) {
  const auto beta1 = static_cast<float>(step.beta1), beta2 = static_cast<float>(step.beta2);
  const auto lr = static_cast<float>(step.lr), decay = static_cast<float>(step.weight_decay);
  const auto c1 = static_cast<float>(1 - std::pow(double{beta1}, step.step));
  const auto c2 = static_cast<float>(std::sqrt(1 - std::pow(double{beta2}, step.step)));
  std::vector<float> m(grad.size()), v(grad.size());
  for (std::size_t i = 0; i < grad.size(); ++i) {
    if (!std::isfinite(grad[i])) continue;
    const float g = grad[i] * static_cast<float>(step.grad_scale);
    v[i] = kUnsignedMap[model.v_codes[i]] * model.v_absmax[i / 256] * beta2 + (1 - beta2) * g * g;
    m[i] = kSignedMap[model.m_codes[i]] * model.m_absmax[i / 256] * beta1 + (1 - beta1) * g;
    const float change = m[i] / (std::sqrt(v[i]) + c2 * static_cast<float>(step.eps));
    float& p = model.param[i];
    p = test::rounded(p + -lr * c2 / c1 * change, dtype);
    if (decay > 0) p = test::rounded(p * (1 - lr * decay), dtype);
  }
  requantize(m, kSignedMap, model.m_codes, model.m_absmax);
  requantize(v, kUnsignedMap, model.v_codes, model.v_absmax);
}

template <class T>
std::span<const std::byte> bytes_of(const std::vector<T>& values) {
  return std::as_bytes(std::span(values));
}

void fill(Guarded& memory, std::span<const std::byte> bytes) {
  std::ranges::copy(bytes, memory.payload().begin());
}

void expect_8bit(std::int64_t n, DType dtype, DType grad_dtype, double decay) {
  Model model(n, dtype);
  const auto size = static_cast<std::int64_t>(size_of(dtype));
  const std::int64_t blocks = div_up<std::int64_t>(n, 256);
  Guarded param(n * size, size), m_codes(n, 1), v_codes(n, 3), m_absmax(blocks * 4, 4),
      v_absmax(blocks * 4, 8);
  fill(param, test::to_bytes(model.param, dtype));
  for (Guarded* state : {&m_codes, &v_codes, &m_absmax, &v_absmax}) {
    std::ranges::fill(state->payload(), std::byte{0});
  }
  const AdamW8bitState state{m_codes.data<std::uint8_t>(), v_codes.data<std::uint8_t>(),
                             m_absmax.data<float>(), v_absmax.data<float>()};
  for (int t = 1; t <= 4; ++t) {
    const AdamWStep step{.lr = 3e-3, .weight_decay = decay, .step = t, .grad_scale = 0.75};
    const auto grad = gradient(n, grad_dtype, t);
    const auto grad_bytes = test::to_bytes(grad, grad_dtype);
    cpu::adamw_8bit(state, param.data(), dtype, grad_bytes.data(), grad_dtype, n, step, nullptr);
    reference_8bit(model, grad, dtype, step);
    const std::string where = fmt::format("n {} {} grad {} decay {} step {}", n, name_of(dtype),
                                          name_of(grad_dtype), decay, t);
    EXPECT_EQ(test::first_difference(m_absmax.payload(), bytes_of(model.m_absmax)), -1) << where;
    EXPECT_EQ(test::first_difference(v_absmax.payload(), bytes_of(model.v_absmax)), -1) << where;
    EXPECT_EQ(test::first_difference(m_codes.payload(), bytes_of(model.m_codes)), -1) << where;
    EXPECT_EQ(test::first_difference(v_codes.payload(), bytes_of(model.v_codes)), -1) << where;
    EXPECT_EQ(test::first_difference(param.payload(), test::to_bytes(model.param, dtype)), -1)
        << where;
  }
}

TEST(AdamW8bit, EqualsTheReferenceOnBothPaths) {
  for (const std::int64_t n : {1, 255, 256, 257, 1000, 20001}) {
    for (const DType dtype : test::kFloatTypes) {
      for (const DType grad_dtype : {DType::Float32, dtype}) {
        expect_8bit(n, dtype, grad_dtype, 0);
        expect_8bit(n, dtype, grad_dtype, 0.1);
        const test::PortableScope portable;
        expect_8bit(n, dtype, grad_dtype, 0.1);
      }
    }
  }
}

TEST(AdamW8bit, AGradientWhoseSquareOverflowsLeavesTheElementAlone) {
  std::vector<float> param = {1, 2};
  const std::vector<float> grad = {1e30f, 1};
  std::vector<std::uint8_t> m(2), v(2);
  float m_absmax = 0, v_absmax = 0;
  cpu::adamw_8bit({m.data(), v.data(), &m_absmax, &v_absmax}, param.data(), DType::Float32,
                  grad.data(), DType::Float32, 2, {.lr = 0.5, .step = 1}, nullptr);
  EXPECT_EQ(param[0], 1);
  EXPECT_NEAR(param[1], 1.5, 1e-6);
  EXPECT_EQ(kSignedMap[m[0]], 0);
  EXPECT_EQ(kUnsignedMap[v[0]], 0);
  EXPECT_TRUE(std::isfinite(v_absmax));
}

TEST(AdamW32bit, EqualsTheReference) {
  for (const std::int64_t n : {1, 255, 257, 5001}) {
    for (const DType dtype : test::kFloatTypes) {
      const auto size = static_cast<std::int64_t>(size_of(dtype));
      std::vector<float> p = Model(n, dtype).param;
      std::vector<float> m(n), v(n);
      Guarded param(n * size, size), m_state(n * 4, 4), v_state(n * 4);
      fill(param, test::to_bytes(p, dtype));
      fill(m_state, bytes_of(m));
      fill(v_state, bytes_of(v));
      for (int t = 1; t <= 3; ++t) {
        const AdamWStep step{.lr = 1e-2, .weight_decay = 0.1, .step = t, .grad_scale = 0.5};
        auto grad = test::random_floats(t, n);
        for (float& g : grad) g = test::rounded(g, dtype);
        cpu::adamw_32bit({m_state.data<float>(), v_state.data<float>()}, param.data(), dtype,
                         test::to_bytes(grad, dtype).data(), dtype, n, step, nullptr);
        // torch.optim.AdamW: its scalars are doubles, its tensors float32.
        const auto size_1 = static_cast<float>(-1e-2 / (1 - std::pow(0.9, t)));
        const auto root = static_cast<float>(std::sqrt(1 - std::pow(0.999, t)));
        for (std::int64_t i = 0; i < n; ++i) {
          const float g = grad[i] * 0.5f;
          const float decayed = p[i] * static_cast<float>(1 - 1e-2 * 0.1);
          m[i] += static_cast<float>(1 - 0.9) * (g - m[i]);
          v[i] = v[i] * 0.999f + static_cast<float>(1 - 0.999) * g * g;
          p[i] = test::rounded(decayed + size_1 * m[i] / (std::sqrt(v[i]) / root + 1e-8f), dtype);
        }
        EXPECT_EQ(test::first_difference(m_state.payload(), bytes_of(m)), -1) << n << " " << t;
        EXPECT_EQ(test::first_difference(v_state.payload(), bytes_of(v)), -1) << n << " " << t;
        EXPECT_EQ(test::first_difference(param.payload(), test::to_bytes(p, dtype)), -1)
            << n << " " << t << " " << name_of(dtype);
      }
    }
  }
}

TEST(AdamW, RefusesAGradientOfAnotherType) {
  std::uint16_t half = 0;
  float m = 0, v = 0, param = 0;
  EXPECT_THROW(cpu::adamw_32bit({&m, &v}, &param, DType::Float32, &half, DType::BFloat16, 1,
                                AdamWStep{}, nullptr),
               std::runtime_error);
}

}  // namespace
}  // namespace qlora::kernels
