// The LoRA products with dropout on the device against their CPU twins.

#include "kernels/gpu_support.h"
#include "kernels/lora_dropout_inputs.h"
#include "kernels/matrix.h"

#include <cmath>

namespace qlora::kernels {
namespace {

using test::LoraDropoutCase;
using test::LoraDropoutInputs;
using test::OnDevice;

constexpr DType kHalfTypes[] = {DType::Float16, DType::BFloat16};

// The inputs on the device.
struct DeviceInputs {
  explicit DeviceInputs(const LoraDropoutInputs& host)
      : x(host.x),
        g(host.g),
        a(host.a),
        samples(host.samples),
        positions(host.positions),
        lora(host.lora),
        x_stride(host.x_stride),
        g_stride(host.g_stride) {
    lora.a.data = a.data();
    lora.samples = samples.data<std::int64_t>();
    lora.positions = positions.data<std::int32_t>();
  }
  ConstRows x_rows() { return {x.data(), x_stride}; }
  ConstRows g_rows() { return {g.data(), g_stride}; }

  OnDevice x, g, a, samples, positions;
  LoraDropout lora;
  std::int64_t x_stride, g_stride;
};

// Every element within one unit in its last place, plus float32 sums in another order.
void expect_close(const std::vector<std::byte>& got, const std::vector<std::byte>& expected,
                  DType dtype, const std::string& where) {
  const auto n = static_cast<std::int64_t>(expected.size() / size_of(dtype));
  double largest = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    largest = std::max(largest, std::abs(double{test::element(expected.data(), dtype, i)}));
  }
  for (std::int64_t i = 0; i < n; ++i) {
    const double want = test::element(expected.data(), dtype, i);
    const double limit = test::unit_in_last_place(want, dtype) + 1e-5 * largest;
    ASSERT_NEAR(test::element(got.data(), dtype, i), want, limit) << where << ", element " << i;
  }
}

class GpuLoraDropout : public test::GpuTest, public ::testing::WithParamInterface<LoraDropoutCase> {
 protected:
  // Calls body(inputs, their copy on the device, where) for both element types.
  template <class Body>
  void for_inputs(const Body& body) {
    for (const DType dtype : kHalfTypes) {
      const LoraDropoutInputs host(GetParam(), dtype);
      DeviceInputs device(host);
      body(host, device, fmt::format("{} {}", test::name_of(GetParam()), qlora::name_of(dtype)));
    }
  }
};

TEST_P(GpuLoraDropout, ReduceIsCloseToTheCpuAndEqualToItself) {
  for_inputs([&](const LoraDropoutInputs& host, DeviceInputs& device, const std::string& where) {
    // In place, behind the features of x.
    const auto offset = host.lora.in * static_cast<std::int64_t>(size_of(host.dtype));
    auto expected = host.x;
    cpu::lora_reduce(host.lora, {expected.data(), host.x_stride}, host.dtype, GetParam().rows,
                     {expected.data() + offset, host.x_stride}, nullptr);
    std::vector<std::byte> first;
    for (int run = 0; run < 2; ++run) {
      OnDevice x(host.x);
      cuda::lora_reduce(device.lora, {x.data(), host.x_stride}, host.dtype, GetParam().rows,
                        {x.data<std::byte>() + offset, host.x_stride}, nullptr);
      const auto got = x.download();
      expect_close(got, expected, host.dtype, where);
      if (run == 0) first = got;
      EXPECT_EQ(got, first) << where;
    }
  });
}

TEST_P(GpuLoraDropout, ExpandIsCloseToTheCpuAndEqualToItself) {
  for_inputs([&](const LoraDropoutInputs& host, DeviceInputs& device, const std::string& where) {
    // Into rows that are longer than what is written.
    auto expected = host.x;
    cpu::lora_expand(host.lora, {host.g.data(), host.g_stride}, host.dtype, GetParam().rows,
                     {expected.data(), host.x_stride}, nullptr);
    std::vector<std::byte> first;
    for (int run = 0; run < 2; ++run) {
      OnDevice dx(host.x);
      cuda::lora_expand(device.lora, device.g_rows(), host.dtype, GetParam().rows,
                        {dx.data(), host.x_stride}, nullptr);
      const auto got = dx.download();
      expect_close(got, expected, host.dtype, where);
      if (run == 0) first = got;
      EXPECT_EQ(got, first) << where;
    }
  });
}

TEST_P(GpuLoraDropout, AccumulateIsCloseToTheCpuAndEqualToItself) {
  for_inputs([&](const LoraDropoutInputs& host, DeviceInputs& device, const std::string& where) {
    auto expected = host.grad_a;
    cpu::lora_accumulate_a(host.lora, {host.g.data(), host.g_stride},
                           {host.x.data(), host.x_stride}, host.dtype, GetParam().rows,
                           expected.data(), nullptr);
    std::vector<std::byte> first;
    for (int run = 0; run < 2; ++run) {
      OnDevice grad_a(host.grad_a);
      cuda::lora_accumulate_a(device.lora, device.g_rows(), device.x_rows(), host.dtype,
                              GetParam().rows, grad_a.data<float>(), nullptr);
      const auto got = grad_a.download();
      expect_close(got, test::copy_of(std::as_bytes(std::span(expected))), DType::Float32, where);
      if (run == 0) first = got;
      EXPECT_EQ(got, first) << where;
    }
  });
}

INSTANTIATE_TEST_SUITE_P(GpuCases, GpuLoraDropout, ::testing::ValuesIn(test::kLoraDropoutCases));

}  // namespace
}  // namespace qlora::kernels
