#include "qlora/kernels/rope.h"

#include "kernels/matrix.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace qlora::kernels {
namespace {

using test::Matrix;
using test::Pitch;

constexpr float kHeadEps = 1e-6f;

struct RopeCase {
  HeadShape shape;
  std::int64_t query_heads;
  std::int64_t stride;
};

// The smallest head, one that no 16-bit unit divides, EXAONE's, the largest; the last columns are
// values, which no turn touches.
const RopeCase kRopeCases[] = {
    {{5, 3, 8}, 2, 24}, {{3, 4, 24}, 2, 104}, {{7, 5, 80}, 4, 488}, {{2, 2, 256}, 1, 520}};

struct RopeInputs {
  HeadShape shape;
  std::int64_t query_heads, stride;
  std::vector<std::int32_t> positions;
  std::vector<float> cos, sin;
  Matrix x, dy, query_weight, key_weight;

  RopeInputs(const RopeCase& rope_case, DType dtype)
      : shape(rope_case.shape),
        query_heads(rope_case.query_heads),
        stride(rope_case.stride),
        x(random(1, shape.tokens, stride, dtype)),
        dy(random(2, shape.tokens, stride, dtype)),
        query_weight(random(3, 1, shape.head_dim, dtype)),
        key_weight(random(4, 1, shape.head_dim, dtype)) {
    const std::int64_t half = shape.head_dim / 2;
    for (std::int64_t t = 0; t < shape.tokens; ++t) positions.push_back((t * 7 + 3) % 11);
    for (std::int64_t i = 0; i < 11 * half; ++i) {
      const double angle = i / half * std::pow(1000.0, -static_cast<double>(i % half) / half);
      cos.push_back(static_cast<float>(std::cos(angle)));
      sin.push_back(static_cast<float>(std::sin(angle)));
    }
  }

  static Matrix random(std::uint64_t seed, std::int64_t rows, std::int64_t cols, DType dtype) {
    return {dtype, rows, cols, {cols}, test::random_floats(seed, rows * cols)};
  }
  RopeAngles angles() const { return {positions.data(), cos.data(), sin.data()}; }
  HeadNorm norm() {
    return {query_weight.image().data(), key_weight.image().data(), query_heads, kHeadEps};
  }
  DType dtype() const { return x.dtype(); }

  // A head of a row of `m` in double.
  std::vector<double> head_of(Matrix& m, std::int64_t token, std::int64_t head) const {
    std::vector<double> values;
    for (std::int64_t i = 0; i < shape.head_dim; ++i) {
      values.push_back(m.at(token, head * shape.head_dim + i));
    }
    return values;
  }
  // The formulas of rope.h in double.
  std::vector<double> turned(const std::vector<double>& head, std::int64_t token,
                             double sign) const {
    const std::int64_t half = shape.head_dim / 2;
    std::vector<double> out(head.size());
    for (std::int64_t i = 0; i < half; ++i) {
      const double c = cos[positions[token] * half + i];
      const double s = sign * sin[positions[token] * half + i];
      out[i] = head[i] * c - head[i + half] * s;
      out[i + half] = head[i + half] * c + head[i] * s;
    }
    return out;
  }
  std::vector<double> normed(std::vector<double> values, std::int64_t head) {
    double sum = 0;
    for (const double value : values) sum += value * value;
    const double rstd = 1 / std::sqrt(sum / static_cast<double>(values.size()) + kHeadEps);
    Matrix& weight = head < query_heads ? query_weight : key_weight;
    for (std::size_t i = 0; i < values.size(); ++i) values[i] *= rstd * weight.at(0, i);
    return values;
  }
};

template <class Check>
void for_rope_cases(const Check& check) {
  for (const RopeCase& rope_case : kRopeCases) {
    for (const DType dtype : test::kFloatTypes) {
      RopeInputs in(rope_case, dtype);
      check(in,
            fmt::format("{} {} heads of {}", name_of(dtype), in.shape.heads, in.shape.head_dim));
    }
  }
}

// `got` holds expected(token, head), and right of the heads what `before` held.
using HeadFunction = std::function<std::vector<double>(std::int64_t token, std::int64_t head)>;
void expect_heads(Matrix& got, Matrix& before, RopeInputs& in, const HeadFunction& expected,
                  test::Tolerance tolerance, const std::string& where) {
  const std::int64_t heads_end = in.shape.heads * in.shape.head_dim;
  std::vector<std::vector<double>> rows;
  for (std::int64_t token = 0; token < in.shape.tokens; ++token) {
    auto& row = rows.emplace_back();
    for (std::int64_t head = 0; head < in.shape.heads; ++head) {
      std::ranges::copy(expected(token, head), std::back_inserter(row));
    }
    for (std::int64_t c = heads_end; c < got.cols(); ++c) row.push_back(before.at(token, c));
  }
  test::expect_close(
      got, [&](auto r, auto c) { return rows[r][c]; }, tolerance, where);
}

TEST(Rope, TurnsPairsByTheAnglesOfTheirPositions) {
  for_rope_cases([](RopeInputs& in, const std::string& where) {
    for (const RopeDirection direction : {RopeDirection::Forward, RopeDirection::Backward}) {
      const double sign = direction == RopeDirection::Forward ? 1 : -1;
      Matrix out = in.dy;
      cpu::rope(in.x, in.dtype(), in.shape, in.angles(), direction, out, nullptr);
      const auto expected = [&](auto token, auto head) {
        return in.turned(in.head_of(in.x, token, head), token, sign);
      };
      expect_heads(out, in.dy, in, expected, {0.5, 1e-7}, where);  // three float32 roundings
    }
  });
}

TEST(Rope, TheGradientEqualsTheNumericOne) {
  for_rope_cases([](RopeInputs& in, const std::string& where) {
    Matrix dx = in.dy;
    cpu::rope(dx, in.dtype(), in.shape, in.angles(), RopeDirection::Backward, dx, nullptr);
    const auto expected = [&](std::int64_t token, std::int64_t head) {
      std::vector<double> x = in.head_of(in.x, token, head), gradient;
      const std::vector<double> dy = in.head_of(in.dy, token, head);
      for (double& value : x) {
        gradient.push_back(test::numeric_gradient(value, [&] {
          const std::vector<double> y = in.turned(x, token, 1);
          double objective = 0;
          for (std::size_t i = 0; i < y.size(); ++i) objective += y[i] * dy[i];
          return objective;
        }));
      }
      return gradient;
    };
    expect_heads(dx, in.dy, in, expected, {0.5, 2e-7}, where);
  });
}

TEST(HeadNormRope, NormsEachHeadAndTurnsIt) {
  for_rope_cases([](RopeInputs& in, const std::string& where) {
    Matrix out = in.dy;
    cpu::head_norm_rope(in.x, in.dtype(), in.shape, in.norm(), in.angles(), out, nullptr);
    const auto expected = [&](auto token, auto head) {
      return in.turned(in.normed(in.head_of(in.x, token, head), head), token, 1);
    };
    expect_heads(out, in.dy, in, expected, {0.5, 5e-7}, where);  // six float32 roundings
    Matrix in_place = in.x;
    cpu::head_norm_rope(in_place, in.dtype(), in.shape, in.norm(), in.angles(), in_place, nullptr);
    expect_heads(in_place, in.x, in, expected, {0.5, 5e-7}, where + ", in place");
  });
}

TEST(HeadNormRope, TheGradientEqualsTheNumericOne) {
  for_rope_cases([](RopeInputs& in, const std::string& where) {
    if (in.shape.head_dim > 80) return;  // quadratic in head_dim
    const auto expected = [&](std::int64_t token, std::int64_t head) {
      std::vector<double> x = in.head_of(in.x, token, head), gradient;
      const std::vector<double> dy = in.head_of(in.dy, token, head);
      for (double& value : x) {
        gradient.push_back(test::numeric_gradient(value, [&] {
          const std::vector<double> y = in.turned(in.normed(x, head), token, 1);
          double objective = 0;
          for (std::size_t i = 0; i < y.size(); ++i) objective += y[i] * dy[i];
          return objective;
        }));
      }
      return gradient;
    };
    Matrix dx = in.x;
    cpu::head_norm_rope_backward(in.dy, in.x, in.dtype(), in.shape, in.norm(), in.angles(), dx,
                                 nullptr);
    // About fifteen float32 operations that may cancel.
    expect_heads(dx, in.x, in, expected, {0.5, 2e-6}, where);
    Matrix in_place = in.dy;
    cpu::head_norm_rope_backward(in_place, in.x, in.dtype(), in.shape, in.norm(), in.angles(),
                                 in_place, nullptr);
    expect_heads(in_place, in.dy, in, expected, {0.5, 2e-6}, where + ", in place");
  });
}

}  // namespace
}  // namespace qlora::kernels
