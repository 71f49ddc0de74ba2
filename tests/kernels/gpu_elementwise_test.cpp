// The CUDA kernels of the elementwise ops against their CPU twins. Unless a test says otherwise,
// two runs give the same bits, and the twins agree within
//   one unit in the last place: the float32 results before the one rounding differ in their last
//   bits, which may turn that rounding, plus
//   2e-6 of the row's largest: float32 sums in another order, and __expf.

#include "kernels/device_matrix.h"
#include "qlora/kernels/cross_entropy.h"
#include "qlora/kernels/gather_rows.h"
#include "qlora/kernels/rms_norm.h"
#include "qlora/kernels/rope.h"
#include "qlora/kernels/swiglu.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>

namespace qlora::kernels {
namespace {

using test::DeviceMatrix;
using test::for_matrix_cases;
using test::Matrix;
using test::MatrixCase;
using test::OnDevice;
using test::random_matrix;
using test::Tolerance;

constexpr Tolerance kTwins{1, 2e-6};

class GpuRmsNorm : public test::GpuTest {};

TEST_F(GpuRmsNorm, AgreesWithTheCpu) {
  for_matrix_cases([](const MatrixCase& shape, DType dtype, const std::string& where) {
    Matrix x = random_matrix(1, shape, dtype);
    Matrix weight = random_matrix(2, {1, shape.cols, {shape.cols}}, dtype);
    Matrix y = random_matrix(3, shape, dtype);
    std::vector<float> rstd(shape.rows);
    DeviceMatrix d_x(x), d_weight(weight), d_y(y), d_again(y);
    OnDevice d_rstd(rstd);
    cpu::rms_norm(x, weight.image().data(), dtype, shape.rows, shape.cols, 1e-5f, y, rstd.data(),
                  nullptr);
    for (DeviceMatrix* out : {&d_y, &d_again, &d_x}) {
      cuda::rms_norm(d_x, d_weight.data(), dtype, shape.rows, shape.cols, 1e-5f, *out,
                     out == &d_x ? nullptr : d_rstd.data<float>(), nullptr);
    }
    expect_twin(d_y, y, kTwins, where);
    expect_same(d_again, d_y, y, where + ", twice");
    expect_same(d_x, d_y, y, where + ", in place");
    const auto got = test::copy_of<float>(std::span<const std::byte>(d_rstd.download()));
    for (std::int64_t r = 0; r < shape.rows; ++r) {
      EXPECT_NEAR(got[r], rstd[r], 1e-6 * rstd[r]) << where;
    }
  });
}

TEST_F(GpuRmsNorm, TheBackwardAgreesWithTheCpu) {
  for_matrix_cases([](const MatrixCase& shape, DType dtype, const std::string& where) {
    Matrix x = random_matrix(1, shape, dtype);
    Matrix weight = random_matrix(2, {1, shape.cols, {shape.cols}}, dtype);
    Matrix dy = random_matrix(3, shape, dtype);
    Matrix dx = random_matrix(4, shape, dtype);
    Matrix y = random_matrix(5, shape, dtype);
    DeviceMatrix d_x(x), d_weight(weight), d_dy(dy), d_dx(dx), d_again(dx), d_y(y), d_forward(y);
    OnDevice d_rstd(std::vector<float>(shape.rows));
    cuda::rms_norm(d_x, d_weight.data(), dtype, shape.rows, shape.cols, 1e-5f, d_forward,
                   d_rstd.data<float>(), nullptr);
    const auto scales = test::copy_of<float>(std::span<const std::byte>(d_rstd.download()));
    cpu::rms_norm_backward({dy, x, weight.image().data(), scales.data(), dx, dx, {}}, dtype,
                           shape.rows, shape.cols, nullptr);
    for (DeviceMatrix* out : {&d_dx, &d_again}) {
      const float* device_rstd = d_rstd.data<float>();
      cuda::rms_norm_backward({d_dy, d_x, d_weight.data(), device_rstd, *out, *out, d_y}, dtype,
                              shape.rows, shape.cols, nullptr);
    }
    expect_twin(d_dx, dx, kTwins, where);
    expect_same(d_again, d_dx, dx, where + ", twice");
    expect_same(d_y, d_forward, y, where + ", the output again");
    // Without a residual gradient and without y, over dy.
    cpu::rms_norm_backward({dy, x, weight.image().data(), scales.data(), {}, dy, {}}, dtype,
                           shape.rows, shape.cols, nullptr);
    cuda::rms_norm_backward({d_dy, d_x, d_weight.data(), d_rstd.data<float>(), {}, d_dy, {}}, dtype,
                            shape.rows, shape.cols, nullptr);
    expect_twin(d_dy, dy, kTwins, where + ", alone");
  });
}

class GpuSwiglu : public test::GpuTest {};

TEST_F(GpuSwiglu, AgreesWithTheCpu) {
  for_matrix_cases([](const MatrixCase& shape, DType dtype, const std::string& where) {
    const std::int64_t up_offset = shape.pitch.stride;
    Matrix gate_up = random_matrix(1, test::gate_up_of(shape), dtype);
    Matrix dh = random_matrix(2, shape, dtype);
    Matrix h = random_matrix(3, shape, dtype);
    DeviceMatrix d_gate_up(gate_up), d_kept(gate_up), d_again(gate_up), d_dh(dh), d_h(h), d_same(h);
    cpu::swiglu(gate_up, up_offset, dtype, shape.rows, shape.cols, h, nullptr);
    cuda::swiglu(d_gate_up, up_offset, dtype, shape.rows, shape.cols, d_h, nullptr);
    expect_twin(d_h, h, kTwins, where);
    cpu::swiglu_backward({gate_up, dh, gate_up, {}, up_offset}, dtype, shape.rows, shape.cols,
                         nullptr);
    cuda::swiglu_backward({d_kept, d_dh, d_gate_up, {}, up_offset}, dtype, shape.rows, shape.cols,
                          nullptr);
    cuda::swiglu_backward({d_again, d_dh, d_again, d_same, up_offset}, dtype, shape.rows,
                          shape.cols, nullptr);
    expect_twin(d_gate_up, gate_up, kTwins, where);
    expect_same(d_again, d_gate_up, gate_up, where + ", in place");
    expect_same(d_same, d_h, h, where + ", the output again");
  });
}

class GpuRope : public test::GpuTest {};

// Angles of 64 positions on both sides.
struct AnglesOnBoth {
  std::vector<std::int32_t> positions;
  std::vector<float> cos, sin;
  OnDevice d_positions, d_cos, d_sin;

  explicit AnglesOnBoth(const HeadShape& shape)
      : positions(positions_of(shape.tokens)),
        cos(test::random_floats(11, 32 * shape.head_dim)),
        sin(test::random_floats(12, 32 * shape.head_dim)),
        d_positions(positions),
        d_cos(cos),
        d_sin(sin) {}
  static std::vector<std::int32_t> positions_of(std::int64_t tokens) {
    std::vector<std::int32_t> result;
    for (std::int64_t t = 0; t < tokens; ++t) result.push_back(static_cast<int>(t * 5 % 64));
    return result;
  }
  RopeAngles host() const { return {positions.data(), cos.data(), sin.data()}; }
  RopeAngles device() {
    return {d_positions.data<std::int32_t>(), d_cos.data<float>(), d_sin.data<float>()};
  }
};

// check(shape, query heads, stride, dtype, where) for heads of every width, and for more and fewer
// of them than a thread turns.
template <class Check>
void for_head_shapes(const Check& check) {
  for (const std::int64_t head_dim : {8, 16, 24, 64, 80, 96, 128, 160, 256}) {
    for (const std::int64_t heads : {1, 3, 10}) {
      for (const DType dtype : test::kFloatTypes) {
        const HeadShape shape{37, heads, head_dim};
        check(shape, heads - heads / 3, heads * head_dim + 8, dtype,
              fmt::format("{} {} heads of {}", name_of(dtype), heads, head_dim));
      }
    }
  }
}

TEST_F(GpuRope, EqualsTheCpu) {
  for_head_shapes([](const HeadShape& shape, std::int64_t, std::int64_t stride, DType dtype,
                     const std::string& where) {
    AnglesOnBoth angles(shape);
    for (const RopeDirection direction : {RopeDirection::Forward, RopeDirection::Backward}) {
      Matrix x = random_matrix(1, {shape.tokens, stride, {stride}}, dtype);
      Matrix out = random_matrix(2, {shape.tokens, stride, {stride}}, dtype);
      DeviceMatrix d_x(x), d_out(out);
      cpu::rope(x, dtype, shape, angles.host(), direction, out, nullptr);
      cpu::rope(x, dtype, shape, angles.host(), direction, x, nullptr);
      cuda::rope(d_x, dtype, shape, angles.device(), direction, d_out, nullptr);
      cuda::rope(d_x, dtype, shape, angles.device(), direction, d_x, nullptr);
      expect_twin(d_out, out, {0, 0}, where);
      expect_twin(d_x, x, {0, 0}, where + ", in place");
    }
  });
}

// The heads of `got` are those of `expected`; right of them `got` holds what `before` holds.
void expect_same_heads(DeviceMatrix& got, DeviceMatrix& expected, Matrix& before,
                       const HeadShape& shape, const std::string& where) {
  Matrix all(before), heads(before);
  got.download(all);
  expected.download(heads);
  for (std::int64_t r = 0; r < all.rows(); ++r) {
    for (std::int64_t c = 0; c < all.cols(); ++c) {
      Matrix& source = c < shape.heads * shape.head_dim ? heads : before;
      ASSERT_EQ(all.at(r, c), source.at(r, c)) << where << ", row " << r << ", column " << c;
    }
  }
}

TEST_F(GpuRope, TheNormedOneAgreesWithTheCpu) {
  for_head_shapes([](const HeadShape& shape, std::int64_t query_heads, std::int64_t stride,
                     DType dtype, const std::string& where) {
    AnglesOnBoth angles(shape);
    Matrix x = random_matrix(1, {shape.tokens, stride, {stride}}, dtype);
    Matrix dy = random_matrix(2, {shape.tokens, stride, {stride}}, dtype);
    Matrix q = random_matrix(3, {1, shape.head_dim, {shape.head_dim}}, dtype);
    Matrix k = random_matrix(4, {1, shape.head_dim, {shape.head_dim}}, dtype);
    DeviceMatrix d_x(x), d_out(x), d_dy(dy), d_dx(dy), d_over_x(x), d_q(q), d_k(k);
    const HeadNorm host{q.image().data(), k.image().data(), query_heads, 1e-6f};
    const HeadNorm device{d_q.data(), d_k.data(), query_heads, 1e-6f};
    cpu::head_norm_rope_backward(dy, x, dtype, shape, host, angles.host(), dy, nullptr);
    cuda::head_norm_rope_backward(d_dy, d_x, dtype, shape, device, angles.device(), d_dx, nullptr);
    cuda::head_norm_rope_backward(d_dy, d_over_x, dtype, shape, device, angles.device(), d_over_x,
                                  nullptr);
    expect_same_heads(d_over_x, d_dx, x, shape, where + ", backward over x");
    cuda::head_norm_rope_backward(d_dy, d_x, dtype, shape, device, angles.device(), d_dy, nullptr);
    expect_twin(d_dx, dy, kTwins, where + ", backward");
    expect_same(d_dy, d_dx, dy, where + ", backward in place");
    cpu::head_norm_rope(x, dtype, shape, host, angles.host(), x, nullptr);
    cuda::head_norm_rope(d_x, dtype, shape, device, angles.device(), d_out, nullptr);
    cuda::head_norm_rope(d_x, dtype, shape, device, angles.device(), d_x, nullptr);
    expect_twin(d_out, x, kTwins, where);
    expect_same(d_x, d_out, x, where + ", in place");
  });
}

class GpuGatherRows : public test::GpuTest {};

TEST_F(GpuGatherRows, EqualsTheCpu) {
  for_matrix_cases([](const MatrixCase& shape, DType dtype, const std::string& where) {
    // Every other row, backwards, and as many that are none.
    std::vector<std::int32_t> indices;
    for (auto r = static_cast<std::int32_t>(shape.rows) - 1; r >= 0; r -= 2) {
      indices.push_back(r);
      indices.push_back(-r - 1);
    }
    const auto rows = static_cast<std::int64_t>(indices.size());
    Matrix source = random_matrix(1, shape, dtype);
    Matrix picked = random_matrix(2, {rows, shape.cols, shape.pitch}, dtype);
    Matrix target = random_matrix(3, shape, dtype);
    DeviceMatrix d_source(source), d_picked(picked), d_target(target);
    OnDevice d_indices(indices);
    const auto* device_indices = d_indices.data<std::int32_t>();
    cpu::gather_rows(source, indices.data(), dtype, rows, shape.cols, picked, nullptr);
    cuda::gather_rows(d_source, device_indices, dtype, rows, shape.cols, d_picked, nullptr);
    expect_twin(d_picked, picked, {0, 0}, where);
    cpu::scatter_rows(picked, indices.data(), dtype, rows, shape.cols, target, nullptr);
    cuda::scatter_rows(d_picked, device_indices, dtype, rows, shape.cols, d_target, nullptr);
    expect_twin(d_target, target, {0, 0}, where);
  });
}

class GpuCrossEntropy : public test::GpuTest {};

// Rows that stay in shared memory, short and long, and rows that do not fit.
const MatrixCase kLogitCases[] = {
    {5, 1, {1}},           {5, 8, {8}},           {3, 51, {56, 4}},
    {9, 32000, {32000}},   {3, 32001, {32008}},   {140, 1000, {1008}},
    {3, 102400, {102400}}, {3, 128256, {128256}}, {2, 151936, {151944}},
};

TEST_F(GpuCrossEntropy, AgreesWithTheCpu) {
  const std::vector<float> scale = {0.25f};
  OnDevice d_scale(scale);
  for (const MatrixCase& shape : kLogitCases) {
    for (const DType dtype : test::kFloatTypes) {
      const std::string where = fmt::format("{} [{}, {}]", name_of(dtype), shape.rows, shape.cols);
      const auto last = static_cast<std::int32_t>(shape.cols) - 1;
      std::vector<std::int32_t> labels(shape.rows, last / 2);
      labels.back() = last;
      if (shape.rows > 2) labels[1] = kIgnoredLabel;
      std::vector<float> losses(shape.rows);
      Matrix logits = random_matrix(1, shape, dtype);
      DeviceMatrix d_logits(logits), d_again(logits);
      OnDevice d_labels(labels), d_losses(losses), d_same(losses);
      cpu::cross_entropy(logits, dtype, shape.rows, shape.cols, labels.data(), scale.data(),
                         losses.data(), nullptr);
      cuda::cross_entropy(d_logits, dtype, shape.rows, shape.cols, d_labels.data<std::int32_t>(),
                          d_scale.data<float>(), d_losses.data<float>(), nullptr);
      cuda::cross_entropy(d_again, dtype, shape.rows, shape.cols, d_labels.data<std::int32_t>(),
                          d_scale.data<float>(), d_same.data<float>(), nullptr);
      expect_twin(d_logits, logits, kTwins, where);
      expect_same(d_again, d_logits, logits, where + ", twice");
      const auto bytes = d_losses.download();
      EXPECT_EQ(d_same.download(), bytes) << where;
      const auto got = test::copy_of<float>(std::span<const std::byte>(bytes));
      for (std::int64_t r = 0; r < shape.rows; ++r) {
        EXPECT_NEAR(got[r], losses[r], 2e-6 * (1 + losses[r])) << where << ", row " << r;
      }
    }
  }
}

TEST_F(GpuCrossEntropy, NonFiniteLogitsShow) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const std::vector<float> rows = {kInfinity, 0, 0, 0, 0, NAN, 0, 0, 0, -kInfinity, 0, 0};
  const std::vector<std::int32_t> labels = {1, 0, 0};
  const std::vector<float> scale = {1};
  OnDevice logits(rows), d_labels(labels), d_scale(scale), losses(std::vector<float>(3));
  cuda::cross_entropy({logits.data(), 4}, DType::Float32, 3, 4, d_labels.data<std::int32_t>(),
                      d_scale.data<float>(), losses.data<float>(), nullptr);
  const auto loss = test::copy_of<float>(std::span<const std::byte>(losses.download()));
  const auto gradient = test::copy_of<float>(std::span<const std::byte>(logits.download()));
  EXPECT_TRUE(std::isnan(loss[0]) && std::isnan(gradient[0]));
  EXPECT_TRUE(std::isnan(loss[1]) && std::isnan(gradient[4]));
  EXPECT_NEAR(loss[2], std::log(3.0), 1e-6);
  EXPECT_EQ(gradient[9], 0);
}

TEST_F(GpuCrossEntropy, TheSumOfLossesEqualsTheCpu) {
  for (const std::int64_t rows : {0, 1, 255, 1000, 70001}) {
    const std::vector<float> losses = test::random_floats(rows, rows);
    std::vector<double> sum = {0.5};
    OnDevice d_losses(losses), d_sum(sum);
    cpu::sum_losses(losses.data(), rows, sum.data(), nullptr);
    cuda::sum_losses(d_losses.data<float>(), rows, d_sum.data<double>(), nullptr);
    expect_same(d_sum, sum, fmt::format("{} rows", rows));
  }
}

}  // namespace
}  // namespace qlora::kernels
