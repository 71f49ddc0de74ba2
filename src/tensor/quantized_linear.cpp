#include "qlora/tensor/quantized_linear.h"

#include <ATen/ops/linear.h>
#include <ATen/ops/matmul.h>
#include <torch/csrc/autograd/custom_function.h>

namespace qlora::tensor {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

struct QuantizedLinear : torch::autograd::Function<QuantizedLinear> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x,
                            const QuantizedWeightPtr& weight, at::ScalarType compute_dtype) {
    context->saved_data["weight"] = c10::IValue::make_capsule(weight);
    context->saved_data["compute_dtype"] = static_cast<std::int64_t>(compute_dtype);
    return at::linear(x.to(compute_dtype), weight->dequantize(compute_dtype)).to(x.scalar_type());
  }

  static tensor_list backward(AutogradContext* context, const tensor_list& gradients) {
    const auto capsule = context->saved_data["weight"].toCapsule();
    const auto weight = c10::static_intrusive_pointer_cast<QuantizedWeight>(capsule);
    const auto compute_dtype =
        static_cast<at::ScalarType>(context->saved_data["compute_dtype"].toInt());
    const at::Tensor& dy = gradients[0];
    const at::Tensor dx = at::matmul(dy.to(compute_dtype), weight->dequantize(compute_dtype));
    return {dx.to(dy.scalar_type()), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor quantized_linear(const at::Tensor& x, const QuantizedWeightPtr& weight,
                            at::ScalarType compute_dtype) {
  return QuantizedLinear::apply(x, weight, compute_dtype);
}

}  // namespace qlora::tensor
