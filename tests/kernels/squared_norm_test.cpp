#include "qlora/kernels/squared_norm.h"

#include "kernels/support.h"

#include <algorithm>
#include <cmath>

namespace qlora::kernels {
namespace {

using test::Guarded;

double norm(const std::vector<std::byte>& x, DType dtype, double start = 0) {
  const auto n = static_cast<std::int64_t>(x.size() / size_of(dtype));
  Guarded workspace(squared_norm_workspace(n) * 8);
  cpu::squared_norm(x.data(), dtype, n, workspace.data<double>(), &start, nullptr);
  return start;
}

TEST(SquaredNorm, IsTheSumOfSquares) {
  for (const std::int64_t n : {0, 1, 255, 256, 1000, 16384, 16385, 100003}) {
    for (const DType dtype : test::kFloatTypes) {
      const auto x = test::to_bytes(test::random_floats(n + 1, n), dtype);
      long double expected = 0;
      for (std::int64_t i = 0; i < n; ++i) {
        const long double value = test::element(x.data(), dtype, i);
        expected += value * value;
      }
      // Squares are exact; n roundings of a sum of positive terms, far fewer in the tree.
      EXPECT_NEAR(norm(x, dtype), static_cast<double>(expected), 1e-13 * (1 + expected)) << n;
    }
  }
}

TEST(SquaredNorm, AddsToWhatIsThere) {
  EXPECT_EQ(norm(test::to_bytes(std::vector<float>{3, 4}, DType::Float32), DType::Float32, 2), 27);
}

TEST(SquaredNorm, DoesNotOverflowAndReportsNonFinite) {
  const std::vector<float> large(3, 1e30f);
  EXPECT_NEAR(norm(test::to_bytes(large, DType::Float32), DType::Float32), 3e60, 1e54);
  const std::vector<float> bad = {1, std::nanf(""), 2};
  EXPECT_TRUE(std::isnan(norm(test::to_bytes(bad, DType::Float32), DType::Float32)));
}

// Adds terms in the order that squared_norm.h states.
double in_lanes(const std::vector<double>& terms) {
  double lanes[256] = {};
  for (std::size_t i = 0; i < terms.size(); ++i) lanes[i % 256] += terms[i];
  for (int half = 128; half > 0; half /= 2) {
    for (int lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
  }
  return lanes[0];
}

TEST(SquaredNorm, AddsInTheStatedOrder) {
  const auto x = test::random_floats(5, 200001);
  std::vector<double> chunks;
  for (std::size_t start = 0; start < x.size(); start += 16384) {
    std::vector<double> squares;
    for (std::size_t i = start; i < std::min(start + 16384, x.size()); ++i) {
      squares.push_back(double{x[i]} * x[i]);
    }
    chunks.push_back(in_lanes(squares));
  }
  EXPECT_EQ(norm(test::to_bytes(x, DType::Float32), DType::Float32), in_lanes(chunks));
}

}  // namespace
}  // namespace qlora::kernels
