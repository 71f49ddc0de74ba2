#include "qlora/kernels/gradient_norm.h"

#include "kernels/adamw_tensors.h"

#include <algorithm>
#include <cmath>

namespace qlora::kernels {
namespace {

using test::HostTable;
using test::norm_of;

using Gradient = std::vector<std::byte>;

// A table that has nothing but gradients.
HostTable table_of(std::vector<Gradient>& gradients, DType dtype) {
  std::vector<AdamWTensor> tensors;
  for (Gradient& gradient : gradients) {
    tensors.push_back({.grad = gradient.data(),
                       .n = static_cast<std::int64_t>(gradient.size() / size_of(dtype)),
                       .param_dtype = dtype,
                       .grad_dtype = dtype});
  }
  return HostTable(std::move(tensors));
}

double norm(const std::vector<float>& values, DType dtype = DType::Float32) {
  std::vector<Gradient> gradients = {test::to_bytes(values, dtype)};
  return norm_of(table_of(gradients, dtype), {}).norm;
}

TEST(GradientNorm, IsTheRootOfTheSumOfSquares) {
  for (const std::int64_t n : {1, 255, 256, 1000, 16384, 16385, 100003}) {
    for (const DType dtype : test::kFloatTypes) {
      const auto values = test::random_floats(n + 1, n);
      long double expected = 0;
      for (const float value : values) {
        const long double stored = test::rounded(value, dtype);
        expected += stored * stored;
      }
      // Squares are exact; n roundings of a sum of positive terms, far fewer in the tree.
      EXPECT_NEAR(norm(values, dtype), static_cast<double>(std::sqrt(expected)),
                  1e-13 * static_cast<double>(1 + std::sqrt(expected)))
          << n;
    }
  }
}

TEST(GradientNorm, DoesNotOverflowAndReportsNonFinite) {
  EXPECT_NEAR(norm(std::vector<float>(3, 1e30f)), std::sqrt(3.0) * 1e30, 1e24);
  for (const float bad : {std::nanf(""), INFINITY}) {
    std::vector<Gradient> gradients = {
        test::to_bytes(std::vector<float>{1, bad, 2}, DType::Float32)};
    const GradientNorm result = norm_of(table_of(gradients, DType::Float32), {.max_norm = 1});
    EXPECT_FALSE(std::isfinite(result.norm));
    EXPECT_FALSE(result.finite);
  }
}

TEST(GradientNorm, ClipsAsTorchDoes) {
  std::vector<Gradient> gradients = {test::to_bytes(std::vector<float>{3}, DType::Float32),
                                     test::to_bytes(std::vector<float>{4}, DType::Float32)};
  const HostTable table = table_of(gradients, DType::Float32);
  const GradientNorm free = norm_of(table, {.gradient_scale = 0.5});
  EXPECT_EQ(free.norm, 2.5);
  EXPECT_EQ(free.factor, 0.5f);
  EXPECT_TRUE(free.finite);
  const GradientNorm clipped = norm_of(table, {.gradient_scale = 0.5, .max_norm = 1});
  EXPECT_EQ(clipped.norm, 2.5);
  EXPECT_EQ(clipped.factor, static_cast<float>(0.5 * (1 / (2.5 + 1e-6))));
  EXPECT_EQ(norm_of(table, {.max_norm = 6}).factor, 1.0f);
}

// Adds terms in the order that gradient_norm.h states.
double in_lanes(const std::vector<double>& terms) {
  double lanes[256] = {};
  for (std::size_t i = 0; i < terms.size(); ++i) lanes[i % 256] += terms[i];
  for (int half = 128; half > 0; half /= 2) {
    for (int lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
  }
  return lanes[0];
}

double of_tensor(const std::vector<float>& x) {
  std::vector<double> chunks;
  for (std::size_t start = 0; start < x.size(); start += 16384) {
    std::vector<double> squares;
    for (std::size_t i = start; i < std::min(start + 16384, x.size()); ++i) {
      squares.push_back(double{x[i]} * x[i]);
    }
    chunks.push_back(in_lanes(squares));
  }
  return in_lanes(chunks);
}

TEST(GradientNorm, AddsInTheStatedOrder) {
  std::vector<Gradient> gradients;
  double expected = 0;
  for (const std::int64_t n : {200001, 17, 16385, 300}) {
    const auto x = test::random_floats(n, n);
    expected += of_tensor(x);
    gradients.push_back(test::to_bytes(x, DType::Float32));
  }
  EXPECT_EQ(norm_of(table_of(gradients, DType::Float32), {}).norm, std::sqrt(expected));
  // Added to 1 one by one, the squares of 2^-27 vanish; the other way around they would not.
  gradients = {test::to_bytes(std::vector<float>{1}, DType::Float32)};
  gradients.resize(65, test::to_bytes(std::vector<float>{0x1p-27f}, DType::Float32));
  EXPECT_EQ(norm_of(table_of(gradients, DType::Float32), {}).norm, 1);
}

}  // namespace
}  // namespace qlora::kernels
