// Outputs of swiglu.h and of RMSNorm's backward that lie over inputs: the bits are those of outputs
// with memory of their own.

#include "kernels/device_matrix.h"
#include "qlora/kernels/rms_norm.h"
#include "qlora/kernels/swiglu.h"

namespace qlora::kernels {
namespace {

using test::DeviceMatrix;
using test::for_matrix_cases;
using test::Matrix;
using test::MatrixCase;
using test::OnDevice;
using test::random_matrix;

class GpuInPlace : public test::GpuTest {};

// What an output lies over.
enum class Over { Nothing, X, Dy, DxAdd };

struct NormBackwardInputs {
  Matrix x, weight, dy, dx_add;
  std::vector<float> rstd;

  NormBackwardInputs(const MatrixCase& shape, DType dtype)
      : x(random_matrix(1, shape, dtype)),
        weight(random_matrix(2, {1, shape.cols, {shape.cols}}, dtype)),
        dy(random_matrix(3, shape, dtype)),
        dx_add(random_matrix(4, shape, dtype)),
        rstd(shape.rows) {
    Matrix y(x);
    cpu::rms_norm(x, weight.image().data(), dtype, shape.rows, shape.cols, 1e-5f, y, rstd.data(),
                  nullptr);
  }
};

struct NormGradient {
  Matrix dx, y;
};

// Of copies of the inputs; adds: dx_add is one of them.
NormGradient norm_backward(NormBackwardInputs& in, bool adds, Over dx_over, Over y_over) {
  DeviceMatrix x(in.x), weight(in.weight), dy(in.dy), dx_add(in.dx_add), own_dx(in.x), own_y(in.x);
  OnDevice rstd(in.rstd);
  const auto place = [&](Over over, DeviceMatrix& own) -> DeviceMatrix& {
    return over == Over::X ? x : over == Over::Dy ? dy : over == Over::DxAdd ? dx_add : own;
  };
  DeviceMatrix& dx = place(dx_over, own_dx);
  DeviceMatrix& y = place(y_over, own_y);
  cuda::rms_norm_backward({.dy = dy,
                           .x = x,
                           .weight = weight.data(),
                           .rstd = rstd.data<float>(),
                           .dx_add = adds ? ConstRows(dx_add) : ConstRows(),
                           .dx = dx,
                           .y = y},
                          in.x.dtype(), in.x.rows(), in.x.cols(), nullptr);
  NormGradient result{in.x, in.x};
  dx.download(result.dx);
  y.download(result.y);
  return result;
}

TEST_F(GpuInPlace, TheNormsBackward) {
  struct Places {
    const char* name;
    bool adds;
    Over dx, y;
  };
  constexpr Places kPlaces[] = {
      {"dx over dx_add", true, Over::DxAdd, Over::Nothing},
      {"dx over dy", true, Over::Dy, Over::Nothing},
      {"dx over x", true, Over::X, Over::Nothing},
      {"y over dy", true, Over::Nothing, Over::Dy},
      {"dx over dx_add, y over dy", true, Over::DxAdd, Over::Dy},
      {"dx over x, y over dy", true, Over::X, Over::Dy},
      {"alone, dx over dy", false, Over::Dy, Over::Nothing},
      {"alone, dx over x", false, Over::X, Over::Nothing},
      {"alone, dx over x, y over dy", false, Over::X, Over::Dy},
  };
  for_matrix_cases([&](const MatrixCase& shape, DType dtype, const std::string& where) {
    NormBackwardInputs in(shape, dtype);
    for (const bool adds : {false, true}) {
      NormGradient apart = norm_backward(in, adds, Over::Nothing, Over::Nothing);
      for (const Places& places : kPlaces) {
        if (places.adds != adds) continue;
        NormGradient found = norm_backward(in, adds, places.dx, places.y);
        test::expect_same(found.dx, apart.dx, fmt::format("{}, {}: dx", where, places.name));
        test::expect_same(found.y, apart.y, fmt::format("{}, {}: y", where, places.name));
      }
    }
  });
}

TEST_F(GpuInPlace, SwigluOverGate) {
  for_matrix_cases([](const MatrixCase& shape, DType dtype, const std::string& where) {
    const std::int64_t up_offset = shape.pitch.stride;
    Matrix gate_up = random_matrix(1, test::gate_up_of(shape), dtype);
    Matrix h = random_matrix(2, shape, dtype), both(gate_up);
    DeviceMatrix d_gate_up(gate_up), d_h(h), d_both(gate_up);
    cuda::swiglu(d_gate_up, up_offset, dtype, shape.rows, shape.cols, d_h, nullptr);
    cuda::swiglu(d_both, up_offset, dtype, shape.rows, shape.cols, d_both, nullptr);
    d_h.download(h);
    d_both.download(both);
    for (std::int64_t r = 0; r < gate_up.rows(); ++r) {
      for (std::int64_t c = 0; c < gate_up.cols(); ++c) {
        ASSERT_EQ(both.at(r, c), c < shape.cols ? h.at(r, c) : gate_up.at(r, c))
            << where << ", row " << r << ", column " << c;
      }
    }
  });
}

struct SwigluGradient {
  Matrix d_gate_up, h;
};

SwigluGradient swiglu_backward(Matrix& gate_up, Matrix& dh, std::int64_t up_offset,
                               bool over_gate_up, bool over_dh) {
  DeviceMatrix d_gate_up(gate_up), d_dh(dh), own_gradient(gate_up), own_h(dh);
  DeviceMatrix& gradient = over_gate_up ? d_gate_up : own_gradient;
  DeviceMatrix& h = over_dh ? d_dh : own_h;
  cuda::swiglu_backward(
      {.gate_up = d_gate_up, .dh = d_dh, .d_gate_up = gradient, .h = h, .up_offset = up_offset},
      dh.dtype(), dh.rows(), dh.cols(), nullptr);
  SwigluGradient result{gate_up, dh};
  gradient.download(result.d_gate_up);
  h.download(result.h);
  return result;
}

TEST_F(GpuInPlace, SwiglusBackward) {
  for_matrix_cases([](const MatrixCase& shape, DType dtype, const std::string& where) {
    const std::int64_t up_offset = shape.pitch.stride;
    Matrix gate_up = random_matrix(1, test::gate_up_of(shape), dtype);
    Matrix dh = random_matrix(2, shape, dtype);
    SwigluGradient apart = swiglu_backward(gate_up, dh, up_offset, false, false);
    for (const auto& [over_gate_up, over_dh] :
         {std::pair{true, false}, {false, true}, {true, true}}) {
      SwigluGradient found = swiglu_backward(gate_up, dh, up_offset, over_gate_up, over_dh);
      const std::string places =
          fmt::format("{}, over gate_up: {}, over dh: {}", where, over_gate_up, over_dh);
      test::expect_same(found.d_gate_up, apart.d_gate_up, places);
      test::expect_same(found.h, apart.h, places);
    }
  });
}

}  // namespace
}  // namespace qlora::kernels
