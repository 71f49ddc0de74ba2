#include "qlora/kernels/adamw.h"

#include "kernels/adamw_tensors.h"
#include "qlora/base/error.h"
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

constexpr float kFactor = 0.75f;

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
    const float g = grad[i] * kFactor;
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
  for (int t = 1; t <= 4; ++t) {
    const AdamWStep step{.lr = 3e-3, .weight_decay = decay, .step = t};
    const auto grad = gradient(n, grad_dtype, t);
    auto grad_bytes = test::to_bytes(grad, grad_dtype);
    test::update({.param = param.data(),
                  .grad = grad_bytes.data(),
                  .m = m_codes.data(),
                  .v = v_codes.data(),
                  .m_absmax = m_absmax.data<float>(),
                  .v_absmax = v_absmax.data<float>(),
                  .n = n,
                  .param_dtype = dtype,
                  .grad_dtype = grad_dtype},
                 step, kFactor);
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
  std::vector<float> grad = {1e30f, 1};
  std::vector<std::uint8_t> m(2), v(2);
  float m_absmax = 0, v_absmax = 0;
  test::update({.param = param.data(),
                .grad = grad.data(),
                .m = m.data(),
                .v = v.data(),
                .m_absmax = &m_absmax,
                .v_absmax = &v_absmax,
                .n = 2},
               {.lr = 0.5});
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
        auto grad = test::random_floats(t, n);
        for (float& g : grad) g = test::rounded(g, dtype);
        auto grad_bytes = test::to_bytes(grad, dtype);
        test::update({.param = param.data(),
                      .grad = grad_bytes.data(),
                      .m = m_state.data(),
                      .v = v_state.data(),
                      .n = n,
                      .param_dtype = dtype,
                      .grad_dtype = dtype},
                     {.lr = 1e-2, .weight_decay = 0.1, .step = t}, 0.5f);
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

// All cases in one table, with gradients of step t.
struct ManyTensors {
  std::vector<test::TensorCase> cases = test::many_cases();
  std::vector<test::TensorBytes> bytes;
  std::vector<AdamWTensor> tensors;

  ManyTensors() {
    for (std::size_t i = 0; i < cases.size(); ++i) bytes.emplace_back(cases[i], i);
    for (std::size_t i = 0; i < cases.size(); ++i) tensors.push_back(bytes[i].on_host(cases[i]));
  }

  void set_gradients(int t) {
    for (std::size_t i = 0; i < cases.size(); ++i) {
      const auto values = gradient(cases[i].n, cases[i].grad_dtype, t);
      std::ranges::copy(test::to_bytes(values, cases[i].grad_dtype), bytes[i].grad.begin());
    }
  }
};

void expect_equal(const test::TensorBytes& a, const test::TensorBytes& b, const std::string& name) {
  for (const auto part :
       {&test::TensorBytes::param, &test::TensorBytes::grad, &test::TensorBytes::m,
        &test::TensorBytes::v, &test::TensorBytes::m_absmax, &test::TensorBytes::v_absmax,
        &test::TensorBytes::copy}) {
    EXPECT_EQ(test::first_difference(a.*part, b.*part), -1) << name;
  }
}

TEST(AdamWTable, UpdatesEachTensorAsIfItWereAlone) {
  ManyTensors together;
  ManyTensors alone;
  for (int t = 1; t <= 3; ++t) {
    together.set_gradients(t);
    alone.set_gradients(t);
    const AdamWStep step{.lr = 3e-3, .weight_decay = 0.1, .step = t};
    const GradientNorm norm{.factor = kFactor};
    cpu::adamw(test::HostTable(together.tensors).view(), step, &norm, nullptr);
    for (const AdamWTensor& tensor : alone.tensors) test::update(tensor, step, kFactor);
  }
  for (std::size_t i = 0; i < together.cases.size(); ++i) {
    expect_equal(together.bytes[i], alone.bytes[i], fmt::format("tensor {}", i));
  }
}

TEST(AdamWTable, DecaysOnlyWhatItShould) {
  for (const bool eight_bit : {true, false}) {
    const test::TensorCase with{.n = 300, .eight_bit = eight_bit};
    const test::TensorCase without{.n = 300, .eight_bit = eight_bit, .decay = false};
    test::TensorBytes decayed(with, 1), kept(without, 1), plain(with, 1);
    for (test::TensorBytes* bytes : {&decayed, &kept, &plain}) {
      bytes->grad = test::to_bytes(gradient(300, DType::Float32, 1), DType::Float32);
    }
    test::update(decayed.on_host(with), {.weight_decay = 0.1});
    test::update(kept.on_host(without), {.weight_decay = 0.1});
    test::update(plain.on_host(with), {.weight_decay = 0});
    EXPECT_NE(test::first_difference(decayed.param, plain.param), -1);
    EXPECT_EQ(test::first_difference(kept.param, plain.param), -1);
  }
}

TEST(AdamWTable, CopiesAreTheScaledParametersAtTheirPitch) {
  ManyTensors many;
  many.set_gradients(1);
  for (test::TensorBytes& bytes : many.bytes) std::ranges::fill(bytes.copy, std::byte{0xcd});
  const GradientNorm norm;
  cpu::adamw(test::HostTable(many.tensors).view(), {}, &norm, nullptr);
  for (std::size_t t = 0; t < many.cases.size(); ++t) {
    const test::TensorCase& c = many.cases[t];
    if (c.copy_columns == 0) continue;
    std::vector<std::byte> expected(many.bytes[t].copy.size(), std::byte{0xcd});
    const std::size_t size = size_of(c.copy_dtype);
    for (std::int64_t i = 0; i < c.n; ++i) {
      const float value = test::element(many.bytes[t].param.data(), c.dtype, i) * 1.5f;
      const std::int64_t at = i / c.copy_columns * c.copy_pitch + i % c.copy_columns;
      std::ranges::copy(test::to_bytes({&value, 1}, c.copy_dtype),
                        expected.begin() + at * static_cast<std::int64_t>(size));
    }
    EXPECT_EQ(test::first_difference(many.bytes[t].copy, expected), -1) << "tensor " << t;
  }
}

TEST(AdamWTable, APartOfATensorWritesItsPartOfTheCopy) {
  const test::TensorCase c{.n = 1000, .copy_columns = 24, .copy_pitch = 40};
  test::TensorBytes whole(c, 1), parts(c, 1);
  whole.grad = parts.grad = test::to_bytes(gradient(1000, DType::Float32, 1), DType::Float32);
  test::update(whole.on_host(c), {});
  std::vector<AdamWTensor> tensors;
  for (const std::int64_t begin : {0, 512}) {
    AdamWTensor part = parts.on_host(c);
    part.param = static_cast<float*>(part.param) + begin;
    part.grad = static_cast<float*>(part.grad) + begin;
    part.m = static_cast<std::uint8_t*>(part.m) + begin;
    part.v = static_cast<std::uint8_t*>(part.v) + begin;
    part.m_absmax += begin / kAdamWBlock;
    part.v_absmax += begin / kAdamWBlock;
    part.n = begin == 0 ? 512 : 488;
    part.copy.first = begin;
    tensors.push_back(part);
  }
  const GradientNorm norm;
  cpu::adamw(test::HostTable(tensors).view(), {}, &norm, nullptr);
  expect_equal(whole, parts, "parts");
}

TEST(AdamWTable, ANonFiniteNormChangesNothingButZeroedGradients) {
  for (const bool zero : {false, true}) {
    ManyTensors many;
    many.set_gradients(2);
    const ManyTensors before = many;
    const GradientNorm norm{.norm = INFINITY, .finite = false};
    cpu::adamw(test::HostTable(many.tensors).view(), {.zero_gradients = zero}, &norm, nullptr);
    for (std::size_t i = 0; i < many.cases.size(); ++i) {
      test::TensorBytes expected = before.bytes[i];
      if (zero) std::ranges::fill(expected.grad, std::byte{0});
      expect_equal(many.bytes[i], expected, fmt::format("tensor {}", i));
    }
  }
}

TEST(AdamWTable, GradientsAreZeroedAfterTheyWereRead) {
  ManyTensors zeroed, kept;
  for (ManyTensors* many : {&zeroed, &kept}) {
    many->set_gradients(1);
    const GradientNorm norm;
    cpu::adamw(test::HostTable(many->tensors).view(), {.zero_gradients = many == &zeroed}, &norm,
               nullptr);
  }
  for (std::size_t i = 0; i < kept.cases.size(); ++i) {
    std::ranges::fill(kept.bytes[i].grad, std::byte{0});
    expect_equal(zeroed.bytes[i], kept.bytes[i], fmt::format("tensor {}", i));
  }
}

TEST(AdamWTable, RefusesAGradientOfAnotherType) {
  std::vector<AdamWTensor> tensors = {{.n = 1, .grad_dtype = DType::BFloat16}};
  EXPECT_THROW(number_chunks(tensors), Error);
}

}  // namespace
}  // namespace qlora::kernels
