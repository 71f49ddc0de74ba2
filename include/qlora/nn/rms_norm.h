#pragma once

#include <ATen/core/Tensor.h>

namespace qlora::nn {

// y = x / sqrt(mean(x²) + eps) · weight over the last dimension. The normalization runs in float32
// (float64 for float64 input) and is rounded to x's element type before the product with the
// weight, as the HF stack does.
class RmsNorm {
 public:
  RmsNorm() = default;
  RmsNorm(at::Tensor weight, double eps) : weight_(std::move(weight)), eps_(eps) {}

  at::Tensor forward(const at::Tensor& x) const;

  bool defined() const { return weight_.defined(); }
  at::Tensor& weight() { return weight_; }
  const at::Tensor& weight() const { return weight_; }

  // Turns the weight into a trainable float32 copy (PEFT's modules_to_save).
  void train_fully();

 private:
  at::Tensor weight_;
  double eps_ = 1e-5;
};

}  // namespace qlora::nn
