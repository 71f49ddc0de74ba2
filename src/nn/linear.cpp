#include "qlora/nn/linear.h"

#include "qlora/tensor/quantized_linear.h"

#include <ATen/ops/linear.h>

#include <utility>

namespace qlora::nn {

Linear::Linear(at::Tensor weight, at::Tensor bias)
    : weight_(std::move(weight)), bias_(std::move(bias)) {}

Linear::Linear(tensor::QuantizedWeightPtr weight, at::Tensor bias, at::ScalarType compute_dtype)
    : quantized_(std::move(weight)), bias_(std::move(bias)), compute_dtype_(compute_dtype) {}

at::Tensor Linear::forward(const at::Tensor& x, const ForwardContext& context) const {
  const auto dtype = x.scalar_type();
  at::Tensor y = quantized_ ? tensor::quantized_linear(x, quantized_, compute_dtype_)
                            : at::linear(x, weight_.to(dtype));
  if (bias_.defined()) y = y + bias_.to(dtype);
  return adapter_ ? adapter_->add_to(y, x, context) : y;
}

c10::Device Linear::device() const {
  return quantized_ ? quantized_->packed.device() : weight_.device();
}

at::Tensor Linear::dense_weight(at::ScalarType dtype) const {
  return quantized_ ? quantized_->dequantize(dtype) : weight_.detach().to(dtype);
}

void Linear::train_fully() {
  weight_ = dense_weight(at::kFloat).clone().requires_grad_(true);
  quantized_.reset();
  if (!bias_.defined()) return;
  bias_ = bias_.detach().to(at::kFloat, /*non_blocking=*/false, /*copy=*/true).requires_grad_(true);
}

c10::IntArrayRef Linear::shape() const {
  return quantized_ ? c10::IntArrayRef(quantized_->shape) : weight_.sizes();
}

}  // namespace qlora::nn
