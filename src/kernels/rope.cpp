#include "convert.h"
#include "lane_sum.h"
#include "qlora/base/error.h"
#include "qlora/base/parallel.h"
#include "rms_norm_math.h"
#include "rope_math.h"
#include "rows.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace qlora::kernels {

void check_heads(ConstRows x, const HeadShape& shape) {
  QLORA_ASSERT(shape.head_dim > 0 && shape.head_dim <= kMaxHeadDim && shape.head_dim % 8 == 0);
  check_rows(x, shape.heads * shape.head_dim);
  check_alignment(x.data, 16);
  QLORA_ASSERT(x.stride % 8 == 0);
}

namespace cpu {
namespace {

using Head = std::array<float, kMaxHeadDim>;

void turn_head(const RopeAngles& angles, std::int64_t token, std::int64_t half, float sign,
               Head& x) {
  const std::int64_t first = angles.positions[token] * half;
  for (std::int64_t i = 0; i < half; ++i) {
    turn(x[i], x[i + half], angles.cos[first + i], sign * angles.sin[first + i]);
  }
}

// body(token, head) for all.
template <class Body>
void for_heads(const HeadShape& shape, const Body& body) {
  const std::int64_t grain = row_grain(std::max<std::int64_t>(shape.heads * shape.head_dim, 1));
  parallel_for(shape.tokens, grain, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t token = first; token < last; ++token) {
      for (std::int64_t head = 0; head < shape.heads; ++head) body(token, head);
    }
  });
}

// Both weights in float32.
struct Weights {
  Head query, key;

  Weights(const HeadNorm& norm, DType dtype, std::int64_t head_dim) {
    load_floats(dtype, norm.query_weight, 0, head_dim, query.data());
    load_floats(dtype, norm.key_weight, 0, head_dim, key.data());
  }
};

float head_rstd(const Head& x, std::int64_t n, float eps) {
  const double sum = lane_sum(n, [&](auto i) { return double{x[i]} * x[i]; });
  return static_cast<float>(1 / std::sqrt(sum / static_cast<double>(n) + eps));
}

}  // namespace

void rope(ConstRows x, DType dtype, const HeadShape& shape, const RopeAngles& angles,
          RopeDirection direction, Rows out, Stream) {
  if (shape.tokens == 0 || shape.heads == 0) return;
  check_heads(x, shape);
  check_heads(out, shape);
  const std::int64_t n = shape.head_dim;
  for_heads(shape, [&](std::int64_t token, std::int64_t head) {
    Head values;
    load_floats(dtype, x.data, token * x.stride + head * n, n, values.data());
    turn_head(angles, token, n / 2, sign_of(direction), values);
    store_floats(dtype, values.data(), n, out.data, token * out.stride + head * n);
  });
}

void head_norm_rope(ConstRows x, DType dtype, const HeadShape& shape, const HeadNorm& norm,
                    const RopeAngles& angles, Rows out, Stream) {
  if (shape.tokens == 0 || shape.heads == 0) return;
  check_heads(x, shape);
  check_heads(out, shape);
  const std::int64_t n = shape.head_dim;
  const Weights weights(norm, dtype, n);
  for_heads(shape, [&](std::int64_t token, std::int64_t head) {
    const Head& w = head < norm.query_heads ? weights.query : weights.key;
    Head values;
    load_floats(dtype, x.data, token * x.stride + head * n, n, values.data());
    const float rstd = head_rstd(values, n, norm.eps);
    for (std::int64_t i = 0; i < n; ++i) values[i] = rms_normed(values[i], rstd, w[i]);
    turn_head(angles, token, n / 2, 1, values);
    store_floats(dtype, values.data(), n, out.data, token * out.stride + head * n);
  });
}

void head_norm_rope_backward(ConstRows dy, ConstRows x, DType dtype, const HeadShape& shape,
                             const HeadNorm& norm, const RopeAngles& angles, Rows dx, Stream) {
  if (shape.tokens == 0 || shape.heads == 0) return;
  check_heads(dy, shape);
  check_heads(x, shape);
  check_heads(dx, shape);
  const std::int64_t n = shape.head_dim;
  const Weights weights(norm, dtype, n);
  for_heads(shape, [&](std::int64_t token, std::int64_t head) {
    const Head& w = head < norm.query_heads ? weights.query : weights.key;
    Head values, g;
    load_floats(dtype, x.data, token * x.stride + head * n, n, values.data());
    load_floats(dtype, dy.data, token * dy.stride + head * n, n, g.data());
    turn_head(angles, token, n / 2, -1, g);
    const float rstd = head_rstd(values, n, norm.eps);
    const double sum = lane_sum(n, [&](auto i) { return double{g[i]} * w[i] * values[i]; });
    const auto slope = static_cast<float>(sum / static_cast<double>(n) * rstd * rstd);
    for (std::int64_t i = 0; i < n; ++i) g[i] = rms_norm_dx(g[i], values[i], w[i], rstd, slope);
    store_floats(dtype, g.data(), n, dx.data, token * dx.stride + head * n);
  });
}

}  // namespace cpu
}  // namespace qlora::kernels
