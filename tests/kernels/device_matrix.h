#pragma once
// Matrices on the device, and the shapes that the row-wise kernels are tested with.

#include "kernels/gpu_support.h"
#include "kernels/matrix.h"

#include <fmt/format.h>

namespace qlora::kernels::test {

// A device copy of a matrix, the bytes between its rows included.
class DeviceMatrix {
 public:
  explicit DeviceMatrix(Matrix& host)
      : memory_(host.image(), host.pitch().misalign), stride_(host.pitch().stride) {}
  operator Rows() { return {memory_.data(), stride_}; }
  operator ConstRows() { return {memory_.data(), stride_}; }
  void* data() { return memory_.data(); }
  // Over the bytes of a matrix of the same shape.
  void download(Matrix& host) { std::ranges::copy(memory_.download(), host.image().begin()); }

 private:
  OnDevice memory_;
  std::int64_t stride_;
};

// `device` holds what `host` holds, within the tolerance.
inline void expect_twin(DeviceMatrix& device, Matrix& host, Tolerance tolerance,
                        const std::string& where) {
  Matrix got(host.dtype(), host.rows(), host.cols(), host.pitch());
  device.download(got);
  expect_close(
      got, [&](auto r, auto c) { return host.at(r, c); }, tolerance, where);
}

inline void expect_same(DeviceMatrix& a, DeviceMatrix& b, Matrix& like, const std::string& where) {
  Matrix first(like.dtype(), like.rows(), like.cols(), like.pitch());
  Matrix second(like.dtype(), like.rows(), like.cols(), like.pitch());
  a.download(first);
  b.download(second);
  expect_same(first, second, where);
}

struct MatrixCase {
  std::int64_t rows, cols;
  Pitch pitch;
};

// Few columns; a warp's rows; blocks with one, many and uneven runs a thread; rows that a block
// does not hold; gaps; rows off the 16-byte grid.
inline const MatrixCase kMatrixCases[] = {
    {3, 5, {5}},         {5, 8, {8}},         {9, 128, {136}},     {7, 1024, {1024}},
    {4, 1032, {1040}},   {130, 2560, {2560}}, {3, 3001, {3008}},   {3, 2560, {2568, 2}},
    {2, 14336, {14336}}, {2, 16392, {16400}}, {2, 40000, {40008}},
};

inline Matrix random_matrix(std::uint64_t seed, const MatrixCase& shape, DType dtype) {
  const auto values = random_floats(seed, shape.rows * shape.cols);
  return {dtype, shape.rows, shape.cols, shape.pitch, values};
}

template <class Check>
void for_matrix_cases(const Check& check) {
  for (MatrixCase shape : kMatrixCases) {
    for (const DType dtype : kFloatTypes) {
      if (shape.pitch.misalign > 0) shape.pitch.misalign = size_of(dtype);
      check(shape, dtype, fmt::format("{} [{}, {}]", name_of(dtype), shape.rows, shape.cols));
    }
  }
}

// gate | up, with room between them where there is a pitch.
inline MatrixCase gate_up_of(MatrixCase shape) {
  shape.cols += shape.pitch.stride;
  shape.pitch.stride *= 2;
  return shape;
}

}  // namespace qlora::kernels::test
