#include "kernels/matrix.h"

#include <algorithm>
#include <cmath>

namespace qlora::kernels::test {
namespace {

constexpr std::byte kGap{0xa5};

}  // namespace

Matrix::Matrix(DType dtype, std::int64_t rows, std::int64_t cols, Pitch pitch)
    : dtype_(dtype),
      rows_(rows),
      cols_(cols),
      pitch_(pitch),
      guarded_(rows * pitch.stride * static_cast<std::int64_t>(size_of(dtype)), pitch.misalign) {
  std::ranges::fill(image(), kGap);
}

Matrix::Matrix(DType dtype, std::int64_t rows, std::int64_t cols, Pitch pitch,
               std::span<const float> values)
    : Matrix(dtype, rows, cols, pitch) {
  const auto size = static_cast<std::int64_t>(size_of(dtype));
  for (std::int64_t r = 0; r < rows; ++r) {
    const auto bytes = to_bytes(values.subspan(r * cols, cols), dtype);
    std::ranges::copy(bytes, image().begin() + r * pitch.stride * size);
  }
}

Matrix::Matrix(const Matrix& other) : Matrix(other.dtype_, other.rows_, other.cols_, other.pitch_) {
  std::ranges::copy(other.guarded_.payload(), image().begin());
}

Matrix::~Matrix() {
  const auto size = static_cast<std::int64_t>(size_of(dtype_));
  for (std::int64_t r = 0; r < rows_; ++r) {
    const auto gap =
        image().subspan((r * pitch_.stride + cols_) * size, (pitch_.stride - cols_) * size);
    EXPECT_TRUE(std::ranges::all_of(gap, [](std::byte byte) { return byte == kGap; }))
        << "bytes after row " << r;
  }
}

float Matrix::at(std::int64_t r, std::int64_t c) {
  return element(guarded_.data(), dtype_, r * pitch_.stride + c);
}

void expect_same(Matrix& a, Matrix& b, const std::string& where) {
  EXPECT_EQ(first_difference(a.image(), b.image()), -1) << where;
}

double unit_in_last_place(double value, DType dtype) {
  const int digits = dtype == DType::Float32 ? 23 : dtype == DType::Float16 ? 10 : 7;
  const int smallest = dtype == DType::Float16 ? -14 : -126;
  const int exponent = value == 0 ? smallest : std::max(std::ilogb(value), smallest);
  return std::ldexp(1.0, exponent - digits);
}

void expect_close(Matrix& got, const ElementFunction& expected, Tolerance tolerance,
                  const std::string& where) {
  std::vector<double> row(static_cast<std::size_t>(got.cols()));
  for (std::int64_t r = 0; r < got.rows(); ++r) {
    double largest = 0;
    for (std::int64_t c = 0; c < got.cols(); ++c) {
      row[c] = expected(r, c);
      largest = std::max(largest, std::abs(row[c]));
    }
    for (std::int64_t c = 0; c < got.cols(); ++c) {
      const double limit =
          tolerance.ulps * unit_in_last_place(row[c], got.dtype()) + tolerance.of_largest * largest;
      ASSERT_NEAR(got.at(r, c), row[c], limit) << where << ", row " << r << ", column " << c;
    }
  }
}

double numeric_gradient(double& value, const std::function<double()>& objective) {
  constexpr double kStep = 1e-5;
  const double kept = value;
  value = kept + kStep;
  const double above = objective();
  value = kept - kStep;
  const double below = objective();
  value = kept;
  return (above - below) / (2 * kStep);
}

}  // namespace qlora::kernels::test
