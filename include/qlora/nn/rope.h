#pragma once
// Rotary position embedding, rotate-half layout: feature i turns together with feature i + D/2.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace qlora::nn {

// Tables of cos and sin of position · frequency, [positions, D/2], grown as longer contexts come.
class RopeTable {
 public:
  RopeTable() = default;
  // frequencies: radians per position, [D/2]. `limit`: positions that the model can tell apart.
  // `dtype`: of the tables and of the turn (float32, or float64).
  RopeTable(const std::vector<double>& frequencies, std::int64_t limit, c10::Device device,
            at::ScalarType dtype);

  // x: [batch, S, heads, D] at positions offset .. offset + S - 1; the same shape back, rounded
  // once. Throws Error beyond the limit.
  at::Tensor rotate(const at::Tensor& x, std::int64_t offset);
  // The same where `positions`, int64 [batch · S], says where each token stands; all below S.
  at::Tensor rotate(const at::Tensor& x, const at::Tensor& positions);

  struct Tables {
    at::Tensor cos, sin;  // [positions, 1, D/2]
  };
  // Of the first `positions` positions. Throws Error beyond the limit.
  Tables tables(std::int64_t positions);

 private:
  void grow(std::int64_t positions);

  at::Tensor frequencies_;  // float64 [D/2]
  std::int64_t limit_ = 0;
  at::TensorOptions options_;
  at::Tensor cos_;  // [positions, 1, D/2]
  at::Tensor sin_;
};

}  // namespace qlora::nn
