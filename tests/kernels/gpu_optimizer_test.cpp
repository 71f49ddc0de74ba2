// The CUDA kernels of the optimizer against their CPU twins, bit for bit.

#include "kernels/gpu_support.h"
#include "qlora/base/narrow.h"
#include "qlora/kernels/adamw.h"
#include "qlora/kernels/squared_norm.h"

#include <cmath>

namespace qlora::kernels {
namespace {

using test::expect_same;
using test::OnDevice;

std::vector<std::byte> gradient(std::int64_t n, DType dtype, int step) {
  std::vector<float> grad = test::random_floats(100 + step, n, 0.02f);
  for (std::int64_t i = 512; i < std::min<std::int64_t>(768, n); ++i) grad[i] = 0;
  if (step == 2 && n > 300) grad[5] = std::nanf(""), grad[300] = -INFINITY, grad[n - 1] = 1e30f;
  return test::to_bytes(grad, dtype);
}

class GpuAdamW : public test::GpuTest {};

void expect_8bit(std::int64_t n, DType dtype, DType grad_dtype) {
  auto param = test::to_bytes(test::random_floats(1, n, 0.1f), dtype);
  std::vector<std::uint8_t> m(n), v(n);
  std::vector<float> m_absmax(div_up<std::int64_t>(n, 256)), v_absmax(m_absmax.size());
  OnDevice d_param(param), d_m(m), d_v(v), d_m_absmax(m_absmax), d_v_absmax(v_absmax);
  const AdamW8bitState host{m.data(), v.data(), m_absmax.data(), v_absmax.data()};
  const AdamW8bitState device{d_m.data<std::uint8_t>(), d_v.data<std::uint8_t>(),
                              d_m_absmax.data<float>(), d_v_absmax.data<float>()};
  for (int t = 1; t <= 4; ++t) {
    const AdamWStep step{.lr = 3e-3, .weight_decay = t % 2 * 0.1, .step = t, .grad_scale = 0.75};
    const auto grad = gradient(n, grad_dtype, t);
    OnDevice d_grad(grad);
    cpu::adamw_8bit(host, param.data(), dtype, grad.data(), grad_dtype, n, step, nullptr);
    cuda::adamw_8bit(device, d_param.data(), dtype, d_grad.data(), grad_dtype, n, step, nullptr);
    const std::string where =
        fmt::format("n {} {} grad {} step {}", n, name_of(dtype), name_of(grad_dtype), t);
    expect_same(d_m_absmax, m_absmax, where);
    expect_same(d_v_absmax, v_absmax, where);
    expect_same(d_m, m, where);
    expect_same(d_v, v, where);
    expect_same(d_param, param, where);
  }
}

TEST_F(GpuAdamW, EightBitEqualsTheCpu) {
  for (const std::int64_t n : {1, 255, 256, 257, 1000, 20001}) {
    for (const DType dtype : test::kFloatTypes) {
      expect_8bit(n, dtype, DType::Float32);
      expect_8bit(n, dtype, dtype);
    }
  }
}

void expect_32bit(std::int64_t n, DType dtype, DType grad_dtype) {
  auto param = test::to_bytes(test::random_floats(1, n, 0.1f), dtype);
  std::vector<float> m(n), v(n);
  OnDevice d_param(param), d_m(m), d_v(v);
  for (int t : {1, 3, 4}) {  // without the step whose gradient has NaN: its payload is free
    const AdamWStep step{.lr = 1e-2, .weight_decay = 0.1, .step = t, .grad_scale = 0.5};
    const auto grad = gradient(n, grad_dtype, t);
    OnDevice d_grad(grad);
    cpu::adamw_32bit({m.data(), v.data()}, param.data(), dtype, grad.data(), grad_dtype, n, step,
                     nullptr);
    cuda::adamw_32bit({d_m.data<float>(), d_v.data<float>()}, d_param.data(), dtype, d_grad.data(),
                      grad_dtype, n, step, nullptr);
    const std::string where =
        fmt::format("n {} {} grad {} step {}", n, name_of(dtype), name_of(grad_dtype), t);
    expect_same(d_m, m, where);
    expect_same(d_v, v, where);
    expect_same(d_param, param, where);
  }
}

TEST_F(GpuAdamW, ThirtyTwoBitEqualsTheCpu) {
  for (const std::int64_t n : {1, 255, 257, 5001}) {
    for (const DType dtype : test::kFloatTypes) {
      expect_32bit(n, dtype, DType::Float32);
      expect_32bit(n, dtype, dtype);
    }
  }
}

class GpuSquaredNorm : public test::GpuTest {};

TEST_F(GpuSquaredNorm, EqualsTheCpu) {
  for (const std::int64_t n : {0, 1, 255, 1000, 16384, 16385, 5000003}) {
    for (const DType dtype : test::kFloatTypes) {
      const auto x = test::to_bytes(test::random_floats(n + 1, n), dtype);
      std::vector<double> workspace(squared_norm_workspace(n)), sum = {0.5};
      OnDevice d_x(x), d_workspace(workspace), d_sum(sum);
      cpu::squared_norm(x.data(), dtype, n, workspace.data(), sum.data(), nullptr);
      cuda::squared_norm(d_x.data(), dtype, n, d_workspace.data<double>(), d_sum.data<double>(),
                         nullptr);
      expect_same(d_sum, sum, fmt::format("{} n {}", name_of(dtype), n));
    }
  }
}

}  // namespace
}  // namespace qlora::kernels
