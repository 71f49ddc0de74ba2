#include "qlora/nn/rms_norm.h"

#include <torch/csrc/autograd/custom_function.h>

namespace qlora::nn {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

at::ScalarType wide(at::ScalarType dtype) {
  return dtype == at::kDouble ? at::kDouble : at::kFloat;
}

// One autograd node with two saved tensors instead of six: on the CPU the norm's cost is its passes
// over memory.
struct RmsNormFunction : torch::autograd::Function<RmsNormFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight,
                            double eps) {
    const at::Tensor x_wide = x.to(wide(x.scalar_type()));
    const at::Tensor rstd = x_wide.square().mean(-1, /*keepdim=*/true).add_(eps).rsqrt_();
    context->save_for_backward({x, weight, rstd});
    return (x_wide * rstd).to(x.scalar_type()) * weight.to(x.scalar_type());
  }

  // With n = x · rstd and g = dy · weight:  dx = rstd · (g - n · mean(g · n)),  dw = Σ dy · n.
  static tensor_list backward(AutogradContext* context, const tensor_list& gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor& x = saved[0];
    const auto dtype = wide(x.scalar_type());
    const at::Tensor n = x.to(dtype) * saved[2];
    const at::Tensor dy = gradients[0].to(dtype);
    const at::Tensor g = dy * saved[1].to(dtype);
    const at::Tensor dx = (g - n * (g * n).mean(-1, /*keepdim=*/true)) * saved[2];
    at::Tensor dw;
    if (context->needs_input_grad(1)) {
      dw = (dy * n).reshape({-1, n.size(-1)}).sum(0).to(saved[1].scalar_type());
    }
    return {dx.to(x.scalar_type()), dw, at::Tensor()};
  }
};

}  // namespace

at::Tensor RmsNorm::forward(const at::Tensor& x) const {
  return RmsNormFunction::apply(x, weight_, eps_);
}

void RmsNorm::train_fully() {
  weight_ =
      weight_.detach().to(at::kFloat, /*non_blocking=*/false, /*copy=*/true).requires_grad_(true);
}

}  // namespace qlora::nn
