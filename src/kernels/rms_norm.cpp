#include "convert.h"
#include "lane_sum.h"
#include "qlora/base/parallel.h"
#include "rms_norm_math.h"
#include "rows.h"

#include <cmath>
#include <vector>

namespace qlora::kernels::cpu {
namespace {

std::vector<float> floats_of(DType dtype, const void* x, std::int64_t n) {
  std::vector<float> values(static_cast<std::size_t>(n));
  load_floats(dtype, x, 0, n, values.data());
  return values;
}

}  // namespace

void rms_norm(ConstRows x, const void* weight, DType dtype, std::int64_t rows, std::int64_t cols,
              float eps, Rows y, float* rstd, Stream) {
  if (rows == 0 || cols == 0) return;
  check_rows(x, cols);
  check_rows(y, cols);
  const std::vector<float> w = floats_of(dtype, weight, cols);
  parallel_for(rows, row_grain(cols), [&](std::int64_t first, std::int64_t last) {
    std::vector<float> values(w.size());
    for (std::int64_t row = first; row < last; ++row) {
      load_floats(dtype, x.data, row * x.stride, cols, values.data());
      const double sum = lane_sum(cols, [&](auto c) { return double{values[c]} * values[c]; });
      const auto scale = static_cast<float>(1 / std::sqrt(sum / static_cast<double>(cols) + eps));
      for (std::int64_t c = 0; c < cols; ++c) values[c] = rms_normed(values[c], scale, w[c]);
      store_floats(dtype, values.data(), cols, y.data, row * y.stride);
      if (rstd != nullptr) rstd[row] = scale;
    }
  });
}

void rms_norm_backward(const RmsNormBackward& args, DType dtype, std::int64_t rows,
                       std::int64_t cols, Stream) {
  if (rows == 0 || cols == 0) return;
  check_backward(args, cols);
  const std::vector<float> w = floats_of(dtype, args.weight, cols);
  parallel_for(rows, row_grain(cols), [&](std::int64_t first, std::int64_t last) {
    std::vector<float> x(w.size()), dy(w.size()), add(w.size()), y(w.size());
    for (std::int64_t row = first; row < last; ++row) {
      const float rstd = args.rstd[row];
      load_floats(dtype, args.x.data, row * args.x.stride, cols, x.data());
      load_floats(dtype, args.dy.data, row * args.dy.stride, cols, dy.data());
      if (args.dx_add.data != nullptr) {
        load_floats(dtype, args.dx_add.data, row * args.dx_add.stride, cols, add.data());
      }
      const double sum = lane_sum(cols, [&](auto c) { return double{dy[c]} * w[c] * x[c]; });
      const auto slope = static_cast<float>(sum / static_cast<double>(cols) * rstd * rstd);
      for (std::int64_t c = 0; c < cols; ++c) {
        y[c] = rms_normed(x[c], rstd, w[c]);
        dy[c] = rms_norm_dx(dy[c], x[c], w[c], rstd, slope) + add[c];
      }
      store_floats(dtype, dy.data(), cols, args.dx.data, row * args.dx.stride);
      if (args.y.data == nullptr) continue;
      store_floats(dtype, y.data(), cols, args.y.data, row * args.y.stride);
    }
  });
}

}  // namespace qlora::kernels::cpu
