#pragma once
// The one linear layer: dense or 4-bit storage, an optional bias, an optional adapter.

#include "qlora/nn/context.h"
#include "qlora/nn/lora.h"
#include "qlora/tensor/quantized_weight.h"

#include <optional>

namespace qlora::nn {

// y = x · Wᵀ + bias (+ adapter).   x: [..., in]  W: [out, in]  y: [..., out]
class Linear {
 public:
  Linear() = default;
  explicit Linear(at::Tensor weight, at::Tensor bias = {});
  Linear(tensor::QuantizedWeightPtr weight, at::Tensor bias, at::ScalarType compute_dtype);

  at::Tensor forward(const at::Tensor& x, const ForwardContext& context) const;

  std::int64_t in_features() const { return shape()[1]; }
  std::int64_t out_features() const { return shape()[0]; }
  c10::Device device() const;

  // The frozen (or, after train_fully, trainable) dense weight; undefined where it is quantized.
  at::Tensor& weight() { return weight_; }
  at::Tensor& bias() { return bias_; }
  const tensor::QuantizedWeightPtr& quantized() const { return quantized_; }
  std::optional<LoraAdapter>& adapter() { return adapter_; }

  // The element type of a quantized weight's products.
  at::ScalarType compute_dtype() const { return compute_dtype_; }

  // The weight that the layer computes with, adapter apart, as [out, in] of `dtype`.
  at::Tensor dense_weight(at::ScalarType dtype) const;

  // Turns the weight (and bias) into trainable float32 copies (PEFT's modules_to_save).
  void train_fully();

 private:
  c10::IntArrayRef shape() const;

  at::Tensor weight_;
  tensor::QuantizedWeightPtr quantized_;
  at::Tensor bias_;
  at::ScalarType compute_dtype_ = at::kFloat;
  std::optional<LoraAdapter> adapter_;
};

}  // namespace qlora::nn
