#include "qlora/kernels/swiglu.h"

#include "kernels/matrix.h"

#include <fmt/format.h>

#include <cmath>

namespace qlora::kernels {
namespace {

using test::Matrix;
using test::Pitch;

double swiglu_reference(double gate, double up) { return gate / (1 + std::exp(-gate)) * up; }

struct SwigluCase {
  std::int64_t rows, cols, up_offset;
  Pitch pitch;  // of gate_up; h lies without gaps
};

const SwigluCase kSwigluCases[] = {{1, 1, 1, {2}},
                                   {5, 8, 8, {16}},
                                   {3, 40, 48, {96}},
                                   {4, 51, 60, {113, 4}},
                                   {2, 3000, 3000, {6000}}};

struct SwigluInputs {
  std::int64_t cols, up_offset;
  Matrix gate_up, dh;

  SwigluInputs(const SwigluCase& shape, DType dtype)
      : cols(shape.cols),
        up_offset(shape.up_offset),
        gate_up(dtype, shape.rows, up_offset + cols, shape.pitch,
                test::random_floats(1, shape.rows * (up_offset + cols), 4)),
        dh(dtype, shape.rows, cols, {cols}, test::random_floats(2, shape.rows * cols)) {}

  Matrix like_gate_up() {
    return {gate_up.dtype(), gate_up.rows(), gate_up.cols(), gate_up.pitch(),
            std::vector<float>(gate_up.rows() * gate_up.cols(), 0.25f)};
  }
  Matrix like_h() { return {dh.dtype(), dh.rows(), cols, {cols}}; }
  double gate(std::int64_t r, std::int64_t c) { return gate_up.at(r, c); }
  double up(std::int64_t r, std::int64_t c) { return gate_up.at(r, up_offset + c); }

  void forward(Rows h) { cpu::swiglu(gate_up, up_offset, dh.dtype(), dh.rows(), cols, h, nullptr); }
  void backward(Rows d_gate_up, Rows h = {}) {
    cpu::swiglu_backward({gate_up, dh, d_gate_up, h, up_offset}, dh.dtype(), dh.rows(), cols,
                         nullptr);
  }
};

template <class Check>
void for_swiglu_cases(const Check& check) {
  for (const SwigluCase& shape : kSwigluCases) {
    for (const DType dtype : test::kFloatTypes) {
      SwigluInputs in(shape, dtype);
      check(in, fmt::format("{} [{}, {}]", name_of(dtype), shape.rows, shape.cols));
    }
  }
}

TEST(Swiglu, EqualsTheFormula) {
  for_swiglu_cases([](SwigluInputs& in, const std::string& where) {
    Matrix h = in.like_h();
    in.forward(h);
    const auto expected = [&](auto r, auto c) {
      return swiglu_reference(in.gate(r, c), in.up(r, c));
    };
    // About five float32 roundings before the last.
    test::expect_close(h, expected, {0.5, 4e-7}, where);
  });
}

TEST(Swiglu, TheGradientEqualsTheNumericOne) {
  for_swiglu_cases([](SwigluInputs& in, const std::string& where) {
    Matrix gradient = in.like_gate_up();
    in.backward(gradient);
    const auto expected = [&](std::int64_t r, std::int64_t c) {
      const bool is_up = c >= in.up_offset;
      const std::int64_t column = is_up ? c - in.up_offset : c;
      if (column >= in.cols) return 0.25;  // between gate and up: left as it was
      double gate = in.gate(r, column), up = in.up(r, column);
      return test::numeric_gradient(
          is_up ? up : gate, [&] { return in.dh.at(r, column) * swiglu_reference(gate, up); });
    };
    // The same, and central differences of values up to about 200.
    test::expect_close(gradient, expected, {0.5, 1e-6}, where);
  });
}

TEST(Swiglu, TheBackwardGivesTheOutputAgainAndWorksInPlace) {
  for_swiglu_cases([](SwigluInputs& in, const std::string& where) {
    Matrix h = in.like_h(), again = in.like_h();
    Matrix gradient = in.like_gate_up();
    in.forward(h);
    in.backward(gradient, again);
    test::expect_same(again, h, where);
    in.backward(in.gate_up, in.dh);
    test::expect_same(in.dh, h, where + " over dh");
    for (std::int64_t r = 0; r < h.rows(); ++r) {
      for (std::int64_t c = 0; c < in.cols; ++c) {
        ASSERT_EQ(in.gate(r, c), gradient.at(r, c)) << where;
        ASSERT_EQ(in.up(r, c), gradient.at(r, in.up_offset + c)) << where;
      }
    }
  });
}

TEST(Swiglu, LargeGatesNeitherOverflowNorVanish) {
  std::vector<float> gate_up = {-1e4f, -100, 0, 100, 1e4f, 2, 2, 2, 2, 2};
  std::vector<float> h(5), dh(5, 1.0f);
  cpu::swiglu({gate_up.data(), 10}, 5, DType::Float32, 1, 5, {h.data(), 5}, nullptr);
  EXPECT_EQ(h, (std::vector<float>{-0.0f, h[1], 0, 200, 2e4f}));
  EXPECT_NEAR(h[1], 0, 1e-30);
  cpu::swiglu_backward({{gate_up.data(), 10}, {dh.data(), 5}, {gate_up.data(), 10}, {}, 5},
                       DType::Float32, 1, 5, nullptr);
  EXPECT_EQ(gate_up[0], 0);
  EXPECT_EQ(gate_up[2], 1);
  EXPECT_EQ(gate_up[4], 2);
  EXPECT_EQ(gate_up[9], 1e4f);
}

}  // namespace
}  // namespace qlora::kernels
