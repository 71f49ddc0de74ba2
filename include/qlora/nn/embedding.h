#pragma once

#include <ATen/core/Tensor.h>

namespace qlora::nn {

// Token embedding: row `id` of weight [vocabulary, d].
class Embedding {
 public:
  Embedding() = default;
  explicit Embedding(at::Tensor weight) : weight_(std::move(weight)) {}

  // ids: int64 [...]; result: [..., d] in `dtype`, on the device of ids.
  at::Tensor forward(const at::Tensor& ids, at::ScalarType dtype) const;

  at::Tensor& weight() { return weight_; }
  const at::Tensor& weight() const { return weight_; }

  // Turns the weight into a trainable float32 copy (PEFT's modules_to_save).
  void train_fully();

 private:
  at::Tensor weight_;
};

}  // namespace qlora::nn
