#include "qlora/nn/recompute.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

namespace qlora::nn {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;
using Body = std::function<at::Tensor(const at::Tensor&)>;

struct BodyHolder : torch::CustomClassHolder {
  explicit BodyHolder(Body function) : body(std::move(function)) {}
  Body body;
};

struct Recompute : torch::autograd::Function<Recompute> {
  // `anchor` needs a gradient, so that backward runs even where x needs none.
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x,
                            const at::Tensor& /*anchor*/, const Body& body) {
    context->save_for_backward({x});
    context->saved_data["needs_dx"] = x.requires_grad();
    context->saved_data["body"] = c10::IValue::make_capsule(c10::make_intrusive<BodyHolder>(body));
    const at::NoGradGuard no_grad;
    return body(x);
  }

  static tensor_list backward(AutogradContext* context, const tensor_list& gradients) {
    const bool needs_dx = context->saved_data["needs_dx"].toBool();
    const auto holder =
        c10::static_intrusive_pointer_cast<BodyHolder>(context->saved_data["body"].toCapsule());
    const at::Tensor x = context->get_saved_variables()[0].detach().requires_grad_(needs_dx);
    const at::AutoGradMode with_grad(true);
    const at::Tensor y = holder->body(x);
    torch::autograd::backward({y}, {gradients[0]});
    return {needs_dx ? x.grad() : at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor recompute(const Body& body, const at::Tensor& x) {
  if (!at::GradMode::is_enabled()) return body(x);
  const at::Tensor anchor = at::empty({0}, x.options()).requires_grad_(true);
  return Recompute::apply(x, anchor, body);
}

}  // namespace qlora::nn
