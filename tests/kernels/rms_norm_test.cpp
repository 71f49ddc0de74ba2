#include "qlora/kernels/rms_norm.h"

#include "kernels/matrix.h"

#include <fmt/format.h>

#include <cmath>
#include <numeric>

namespace qlora::kernels {
namespace {

using test::Matrix;
using test::Pitch;

constexpr float kNormEps = 1e-5f;

// The formulas of rms_norm.h in double.
struct NormReference {
  std::vector<double> x, weight, add;

  double rstd() const {
    const double sum = std::inner_product(x.begin(), x.end(), x.begin(), 0.0);
    return 1 / std::sqrt(sum / static_cast<double>(x.size()) + kNormEps);
  }
  double y(std::int64_t c) const { return x[c] * rstd() * weight[c]; }
};

std::vector<double> doubles_of(Matrix& matrix, std::int64_t row) {
  std::vector<double> values;
  for (std::int64_t c = 0; c < matrix.cols(); ++c) values.push_back(matrix.at(row, c));
  return values;
}

struct NormCase {
  std::int64_t rows, cols;
  Pitch pitch;
};

// One column, tiny rows, a head, odd widths, gaps, rows off the 16-byte grid.
const NormCase kNormCases[] = {{3, 8, {8}},       {1, 1, {1}},          {5, 64, {64}},
                               {7, 128, {200}},   {4, 51, {53}},        {3, 96, {104, 4}},
                               {2, 2560, {2560}}, {3, 1030, {1040, 8}}, {1, 8200, {8208}}};

struct NormInputs {
  Matrix x, weight, dy, add;

  NormInputs(const NormCase& shape, DType dtype)
      : x(dtype, shape.rows, shape.cols, shape.pitch, random(1, shape)),
        weight(dtype, 1, shape.cols, {shape.cols}, random(2, shape)),
        dy(dtype, shape.rows, shape.cols, shape.pitch, random(3, shape)),
        add(dtype, shape.rows, shape.cols, shape.pitch, random(4, shape)) {}

  static std::vector<float> random(std::uint64_t seed, const NormCase& shape) {
    return test::random_floats(seed, shape.rows * shape.cols);
  }
  NormReference reference(std::int64_t row) {
    return {doubles_of(x, row), doubles_of(weight, 0), doubles_of(add, row)};
  }
  Matrix like_x() { return {x.dtype(), x.rows(), x.cols(), x.pitch()}; }
};

template <class Check>
void for_norm_cases(const Check& check) {
  for (const NormCase& shape : kNormCases) {
    for (const DType dtype : test::kFloatTypes) {
      NormInputs in(shape, dtype);
      check(in, fmt::format("{} [{}, {}]", name_of(dtype), shape.rows, shape.cols));
    }
  }
}

std::vector<float> forward(NormInputs& in, Rows y) {
  std::vector<float> rstd(in.x.rows());
  cpu::rms_norm(in.x, in.weight.image().data(), in.x.dtype(), in.x.rows(), in.x.cols(), kNormEps, y,
                rstd.data(), nullptr);
  return rstd;
}

void backward(NormInputs& in, const std::vector<float>& rstd, ConstRows add, Rows dx, Rows y = {}) {
  const RmsNormBackward args{in.dy, in.x, in.weight.image().data(), rstd.data(), add, dx, y};
  cpu::rms_norm_backward(args, in.x.dtype(), in.x.rows(), in.x.cols(), nullptr);
}

TEST(RmsNorm, EqualsTheFormula) {
  for_norm_cases([](NormInputs& in, const std::string& where) {
    Matrix y = in.like_x();
    const std::vector<float> rstd = forward(in, y);
    std::vector<NormReference> rows;
    for (std::int64_t r = 0; r < in.x.rows(); ++r) {
      rows.push_back(in.reference(r));
      EXPECT_NEAR(rstd[r], rows[r].rstd(), 1e-7 * rows[r].rstd()) << where;
    }
    // Three float32 roundings before the last.
    test::expect_close(
        y, [&](auto r, auto c) { return rows[r].y(c); }, {0.5, 2e-7}, where);
  });
}

TEST(RmsNorm, TheGradientEqualsTheNumericOne) {
  for_norm_cases([](NormInputs& in, const std::string& where) {
    if (in.x.cols() > 200) return;  // quadratic in cols
    Matrix y = in.like_x();
    const std::vector<float> rstd = forward(in, y);
    Matrix dx = in.like_x();
    backward(in, rstd, in.add, dx);
    const auto gradient = [&](std::int64_t r, std::int64_t c) {
      NormReference reference = in.reference(r);
      const std::vector<double> dy = doubles_of(in.dy, r);
      const double numeric = test::numeric_gradient(reference.x[c], [&] {
        double objective = 0;
        for (std::size_t i = 0; i < dy.size(); ++i) objective += dy[i] * reference.y(i);
        return objective;
      });
      return numeric + reference.add[c];
    };
    // rstd comes rounded to float32, then about ten float32 operations that may cancel.
    test::expect_close(dx, gradient, {0.5, 2e-6}, where);
  });
}

TEST(RmsNorm, TheGradientOfWideRowsEqualsTheFormula) {
  for_norm_cases([](NormInputs& in, const std::string& where) {
    if (in.x.cols() == 1) return;  // its two terms cancel but for eps
    Matrix y = in.like_x();
    const std::vector<float> rstd = forward(in, y);
    Matrix dx = in.like_x();
    backward(in, rstd, {}, dx);
    std::vector<double> slopes;
    for (std::int64_t r = 0; r < in.x.rows(); ++r) {
      const NormReference row = in.reference(r);
      double sum = 0;
      for (std::int64_t c = 0; c < in.x.cols(); ++c)
        sum += in.dy.at(r, c) * row.weight[c] * row.x[c];
      slopes.push_back(sum / static_cast<double>(in.x.cols()) * row.rstd() * row.rstd());
    }
    const auto gradient = [&](std::int64_t r, std::int64_t c) {
      return double{rstd[r]} *
             (double{in.dy.at(r, c)} * in.weight.at(0, c) - in.x.at(r, c) * slopes[r]);
    };
    test::expect_close(dx, gradient, {0.5, 2e-6}, where);
  });
}

TEST(RmsNorm, TheBackwardGivesTheOutputAgain) {
  for_norm_cases([](NormInputs& in, const std::string& where) {
    Matrix y = in.like_x();
    const std::vector<float> rstd = forward(in, y);
    Matrix dx = in.like_x();
    Matrix again = in.like_x();
    backward(in, rstd, in.add, dx, again);
    test::expect_same(again, y, where);
  });
}

TEST(RmsNorm, WorksInPlace) {
  for_norm_cases([](NormInputs& in, const std::string& where) {
    Matrix y = in.like_x();
    const std::vector<float> rstd = forward(in, y);
    Matrix dx = in.like_x();
    backward(in, rstd, in.add, dx);
    backward(in, rstd, in.add, in.add);
    test::expect_same(in.add, dx, where + " over dx_add");
    Matrix plain = in.like_x();
    backward(in, rstd, {}, plain);
    backward(in, rstd, {}, in.dy);
    test::expect_same(in.dy, plain, where + " over dy");
    forward(in, in.x);
    test::expect_same(in.x, y, where + " over x");
  });
}

TEST(RmsNorm, RowsOfZerosAndNoRowsAreFine) {
  std::vector<float> x(16), weight(8, 1.0f), y(16, 9.0f), rstd(2);
  cpu::rms_norm({x.data(), 8}, weight.data(), DType::Float32, 2, 8, kNormEps, {y.data(), 8},
                rstd.data(), nullptr);
  EXPECT_EQ(y, x);
  EXPECT_FLOAT_EQ(rstd[1], 1 / std::sqrt(kNormEps));
  cpu::rms_norm({}, nullptr, DType::Float32, 0, 8, kNormEps, {}, nullptr, nullptr);
}

}  // namespace
}  // namespace qlora::kernels
