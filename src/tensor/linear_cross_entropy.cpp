#include "qlora/tensor/linear_cross_entropy.h"

#include <ATen/ops/empty_like.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/ScalarType.h>
#include <torch/csrc/autograd/custom_function.h>

#include <optional>

namespace qlora::tensor {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

// 256 rows of a 102,400-word vocabulary are 105 MB of float32 logits.
constexpr std::int64_t kChunkRows = 256;

struct LinearCrossEntropy : torch::autograd::Function<LinearCrossEntropy> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& hidden,
                            const at::Tensor& weight, const at::Tensor& labels,
                            const std::optional<at::Tensor>& row_weights) {
    const auto wide = hidden.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
    const bool wants_weight = weight.requires_grad();
    at::Tensor d_hidden = at::empty_like(hidden);
    at::Tensor d_weight =
        wants_weight ? at::zeros_like(weight, weight.options().dtype(wide)) : at::Tensor();
    at::Tensor loss = at::zeros({}, hidden.options().dtype(wide));
    for (std::int64_t begin = 0; begin < hidden.size(0); begin += kChunkRows) {
      const std::int64_t end = std::min(begin + kChunkRows, hidden.size(0));
      const at::Tensor h = hidden.slice(0, begin, end);
      const at::Tensor label = labels.slice(0, begin, end).unsqueeze(1);
      at::Tensor logits = at::linear(h, weight).to(wide);
      const at::Tensor normalizer = logits.logsumexp(1, /*keepdim=*/true);
      at::Tensor losses = normalizer - logits.gather(1, label);
      // d loss / d logits = softmax - onehot, in the logits' own memory.
      logits.sub_(normalizer).exp_();
      logits.scatter_add_(1, label, at::full_like(label, -1, logits.options()));
      if (row_weights) {
        const at::Tensor factor = row_weights->slice(0, begin, end).unsqueeze(1);
        losses.mul_(factor);
        logits.mul_(factor);
      }
      loss += losses.sum();
      const at::Tensor d_logits = logits.to(hidden.scalar_type());
      d_hidden.slice(0, begin, end).copy_(d_logits.matmul(weight));
      if (wants_weight) d_weight.addmm_(d_logits.t().to(wide), h.to(wide));
    }
    context->saved_data["weight_dtype"] = static_cast<std::int64_t>(weight.scalar_type());
    context->save_for_backward({d_hidden, d_weight});
    return loss;
  }

  static tensor_list backward(AutogradContext* context, const tensor_list& gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor& scale = gradients[0];
    // The scale may exceed float16's range (loss scaling), the product does not.
    const at::Tensor d_hidden =
        (saved[0].to(scale.scalar_type()) * scale).to(saved[0].scalar_type());
    at::Tensor d_weight;
    if (saved[1].defined()) {
      const auto dtype = static_cast<at::ScalarType>(context->saved_data["weight_dtype"].toInt());
      d_weight = (saved[1] * scale).to(dtype);
    }
    return {d_hidden, d_weight, at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor linear_cross_entropy(const at::Tensor& hidden, const at::Tensor& weight,
                                const at::Tensor& labels, const at::Tensor& row_weights) {
  return LinearCrossEntropy::apply(
      hidden, weight, labels, row_weights.defined() ? std::optional(row_weights) : std::nullopt);
}

}  // namespace qlora::tensor
