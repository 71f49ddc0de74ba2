#pragma once
// Matrices with a pitch for the tests of the row-wise kernels, and how far results may lie apart.

#include "kernels/support.h"
#include "qlora/kernels/types.h"

#include <functional>

namespace qlora::kernels::test {

// Where a matrix lies: `stride` elements from row to row, its first byte `misalign` bytes after a
// 16-byte boundary.
struct Pitch {
  std::int64_t stride = 0;
  std::int64_t misalign = 0;
};

// A matrix between guard bytes, with guard bytes between its rows.
class Matrix {
 public:
  Matrix(DType dtype, std::int64_t rows, std::int64_t cols, Pitch pitch);
  // The values (row-major, no pitch) rounded to dtype.
  Matrix(DType dtype, std::int64_t rows, std::int64_t cols, Pitch pitch,
         std::span<const float> values);
  Matrix(const Matrix& other);
  Matrix& operator=(const Matrix&) = delete;
  ~Matrix();  // fails the running test where a guard byte has changed

  operator Rows() { return {guarded_.data(), pitch_.stride}; }
  operator ConstRows() { return {guarded_.data(), pitch_.stride}; }

  DType dtype() const { return dtype_; }
  std::int64_t rows() const { return rows_; }
  std::int64_t cols() const { return cols_; }
  Pitch pitch() const { return pitch_; }
  float at(std::int64_t r, std::int64_t c);
  // All bytes, those between rows included.
  std::span<std::byte> image() { return guarded_.payload(); }

 private:
  DType dtype_;
  std::int64_t rows_, cols_;
  Pitch pitch_;
  Guarded guarded_;
};

// Everything from a to b equal, the bytes between rows too.
void expect_same(Matrix& a, Matrix& b, const std::string& where);

// |got - expected| <= ulps * (unit in the last place of expected in got's type)
//                     + of_largest * (largest |expected| of the row)
// Half a unit is the one rounding that the ops promise; of_largest covers float32 arithmetic.
struct Tolerance {
  double ulps;
  double of_largest;
};

using ElementFunction = std::function<double(std::int64_t r, std::int64_t c)>;
void expect_close(Matrix& got, const ElementFunction& expected, Tolerance tolerance,
                  const std::string& where);

// Distance to the next larger magnitude of the type; subnormals counted.
double unit_in_last_place(double value, DType dtype);

// d objective / d value by central differences; `value` is restored. In double and with values
// near 1 the error is about 1e-9.
double numeric_gradient(double& value, const std::function<double()>& objective);

}  // namespace qlora::kernels::test
