// The CPU twins against double loops over the masks of cpu::dropout.

#include "kernels/lora_dropout_inputs.h"
#include "kernels/matrix.h"

#include <cmath>

namespace qlora::kernels {
namespace {

using test::LoraDropoutInputs;

// A sum and what its rounding errors are in proportion to.
struct Sum {
  double value = 0;
  double magnitude = 0;
  void add(double term) {
    value += term;
    magnitude += std::abs(term);
  }
  void expect(double got, DType dtype, std::int64_t element) const {
    const double limit = 0.51 * test::unit_in_last_place(value, dtype) + 1e-6 * magnitude;
    ASSERT_NEAR(got, value, limit) << "element " << element;
  }
};

// dropout of the first `in` columns of x by the part's mask, [rows, in].
std::vector<float> dropped_inputs(const LoraDropoutInputs& inputs, std::size_t part,
                                  const std::vector<std::byte>& x, DType dtype,
                                  std::int64_t stride) {
  const LoraDropout& lora = inputs.lora;
  const auto rows = static_cast<std::int64_t>(inputs.samples.size());
  std::vector<float> values;
  for (std::int64_t i = 0; i < rows * lora.in; ++i) {
    values.push_back(test::element(x.data(), dtype, i / lora.in * stride + i % lora.in));
  }
  auto bytes = test::to_bytes(values, dtype);
  const std::vector<std::int64_t> positions(inputs.positions.begin(), inputs.positions.end());
  cpu::dropout(bytes.data(), dtype, rows, lora.in, inputs.samples.data(), positions.data(),
               {.seed = 7, .module = part}, lora.p, bytes.data(), nullptr);
  for (std::int64_t i = 0; i < rows * lora.in; ++i) {
    values[i] = test::element(bytes.data(), dtype, i);
  }
  return values;
}

class LoraDropoutTest : public ::testing::TestWithParam<test::LoraDropoutCase> {};

TEST_P(LoraDropoutTest, ReduceMultipliesDroppedInputs) {
  const auto& [rows, in, ranks, p, padding] = GetParam();
  for (const DType dtype : test::kFloatTypes) {
    const LoraDropoutInputs inputs(GetParam(), dtype);
    const LoraDropout& lora = inputs.lora;
    test::Matrix out(dtype, rows, lora.extra, {lora.extra + 8, 0});
    cpu::lora_reduce(lora, {inputs.x.data(), inputs.x_stride}, dtype, rows, out, nullptr);
    std::vector<Sum> sums(rows * lora.extra);
    for (std::size_t i = 0; i < lora.count; ++i) {
      const auto x = dropped_inputs(inputs, i, inputs.x, dtype, inputs.x_stride);
      for (std::int64_t e = 0; e < rows * lora.parts[i].rank; ++e) {
        const std::int64_t row = e / lora.parts[i].rank;
        const std::int64_t rank = lora.parts[i].first_rank + e % lora.parts[i].rank;
        for (std::int64_t c = 0; c < in; ++c) {
          sums[row * lora.extra + rank].add(
              double{x[row * in + c]} *
              test::element(inputs.a.data(), dtype, rank * inputs.a_stride + c));
        }
      }
    }
    for (std::int64_t e = 0; e < rows * lora.extra; ++e) {
      sums[e].expect(out.at(e / lora.extra, e % lora.extra), dtype, e);
    }
  }
}

TEST_P(LoraDropoutTest, ExpandDropsEveryPartsProduct) {
  const auto& [rows, in, ranks, p, padding] = GetParam();
  for (const DType dtype : test::kFloatTypes) {
    const LoraDropoutInputs inputs(GetParam(), dtype);
    const LoraDropout& lora = inputs.lora;
    test::Matrix dx(dtype, rows, in, {in + 8, 0});
    cpu::lora_expand(lora, {inputs.g.data(), inputs.g_stride}, dtype, rows, dx, nullptr);
    std::vector<Sum> sums(rows * in);
    for (std::size_t i = 0; i < lora.count; ++i) {
      const std::vector<float> ones(rows * in, 1.0f);
      const auto scale =
          dropped_inputs(inputs, i, test::to_bytes(ones, DType::Float32), DType::Float32, in);
      const auto& [first_rank, rank, key] = lora.parts[i];
      for (std::int64_t e = 0; e < rows * in; ++e) {
        for (std::int64_t r = first_rank; r < first_rank + rank; ++r) {
          sums[e].add(double{scale[e]} *
                      test::element(inputs.g.data(), dtype, e / in * inputs.g_stride + r) *
                      test::element(inputs.a.data(), dtype, r * inputs.a_stride + e % in));
        }
      }
    }
    for (std::int64_t e = 0; e < rows * in; ++e) {
      sums[e].expect(dx.at(e / in, e % in), dtype, e);
    }
  }
}

TEST_P(LoraDropoutTest, AccumulateAddsProductsOverTokens) {
  const auto& [rows, in, ranks, p, padding] = GetParam();
  for (const DType dtype : test::kFloatTypes) {
    const LoraDropoutInputs inputs(GetParam(), dtype);
    const LoraDropout& lora = inputs.lora;
    const std::int64_t n = in - padding;
    test::Matrix grad_a(DType::Float32, lora.extra, n, {n, 0}, inputs.grad_a);
    cpu::lora_accumulate_a(lora, {inputs.g.data(), inputs.g_stride},
                           {inputs.x.data(), inputs.x_stride}, dtype, rows,
                           static_cast<float*>(Rows(grad_a).data), nullptr);
    std::vector<Sum> sums(lora.extra * n);
    for (std::int64_t e = 0; e < lora.extra * n; ++e) sums[e].add(inputs.grad_a[e]);
    for (std::size_t i = 0; i < lora.count; ++i) {
      const auto x = dropped_inputs(inputs, i, inputs.x, dtype, inputs.x_stride);
      const auto& [first_rank, rank, key] = lora.parts[i];
      for (std::int64_t e = first_rank * n; e < (first_rank + rank) * n; ++e) {
        for (std::int64_t row = 0; row < rows; ++row) {
          sums[e].add(double{x[row * in + e % n]} *
                      test::element(inputs.g.data(), dtype, row * inputs.g_stride + e / n));
        }
      }
    }
    for (std::int64_t e = 0; e < lora.extra * n; ++e) {
      if (inputs.is_rank(e / n)) {
        sums[e].expect(grad_a.at(e / n, e % n), DType::Float32, e);
      } else {
        ASSERT_EQ(grad_a.at(e / n, e % n), inputs.grad_a[e]) << "element " << e;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cpu, LoraDropoutTest, ::testing::ValuesIn(test::kLoraDropoutCases));

TEST(LoraDropout, ReducesIntoTheRowsOfItsInput) {
  LoraDropoutInputs inputs({5, 64, {16, 8}, 0.3f}, DType::BFloat16);
  const auto before = inputs.x;
  test::Matrix out(DType::BFloat16, 5, inputs.lora.extra, {inputs.lora.extra, 0});
  const Rows x{inputs.x.data(), inputs.x_stride};
  const Rows behind{inputs.x.data() + 64 * size_of(DType::BFloat16), inputs.x_stride};
  cpu::lora_reduce(inputs.lora, x, DType::BFloat16, 5, out, nullptr);
  cpu::lora_reduce(inputs.lora, x, DType::BFloat16, 5, behind, nullptr);
  for (std::int64_t i = 0; i < 5 * inputs.x_stride; ++i) {
    const std::int64_t row = i / inputs.x_stride, c = i % inputs.x_stride;
    const float expected =
        c < 64 ? test::element(before.data(), DType::BFloat16, i) : out.at(row, c - 64);
    ASSERT_EQ(test::element(inputs.x.data(), DType::BFloat16, i), expected) << row << ' ' << c;
  }
}

}  // namespace
}  // namespace qlora::kernels
