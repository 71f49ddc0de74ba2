#include "qlora/tensor/keyed_dropout.h"

#include "qlora/base/error.h"
#include "qlora/tensor/bridge.h"

#include <ATen/ops/empty_like.h>
#include <ATen/ops/ones_like.h>
#include <torch/csrc/autograd/custom_function.h>

namespace qlora::tensor {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

at::Tensor apply_mask(const at::Tensor& x, const at::Tensor& samples, const at::Tensor& positions,
                      const kernels::DropoutKey& key, float p) {
  const at::Tensor input = x.contiguous();
  const std::int64_t columns = input.size(-1);
  const std::int64_t rows = input.numel() / columns;
  QLORA_ASSERT(samples.numel() == rows && positions.numel() == rows);
  if (input.scalar_type() == at::kDouble) {  // of references alone
    return input * apply_mask(at::ones_like(input, at::kFloat), samples, positions, key, p);
  }
  at::Tensor output = at::empty_like(input);
  const auto run = x.is_cuda() ? kernels::cuda::dropout : kernels::cpu::dropout;
  run(input.const_data_ptr(), dtype_of(input), rows, columns,
      samples.const_data_ptr<std::int64_t>(), positions.const_data_ptr<std::int64_t>(), key, p,
      output.mutable_data_ptr(), current_stream(input));
  return output;
}

struct KeyedDropout : torch::autograd::Function<KeyedDropout> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x,
                            const at::Tensor& samples, const at::Tensor& positions,
                            const kernels::DropoutKey& key, double p) {
    context->save_for_backward({samples, positions});
    context->saved_data["seed"] = static_cast<std::int64_t>(key.seed);
    context->saved_data["module"] = static_cast<std::int64_t>(key.module);
    context->saved_data["p"] = p;
    return apply_mask(x, samples, positions, key, static_cast<float>(p));
  }

  // The mask is linear, so the gradient takes the same path as the value did.
  static tensor_list backward(AutogradContext* context, const tensor_list& gradients) {
    const auto saved = context->get_saved_variables();
    auto& data = context->saved_data;
    const kernels::DropoutKey key{.seed = static_cast<std::uint64_t>(data["seed"].toInt()),
                                  .module = static_cast<std::uint64_t>(data["module"].toInt())};
    const auto p = static_cast<float>(data["p"].toDouble());
    return {apply_mask(gradients[0], saved[0], saved[1], key, p), at::Tensor(), at::Tensor(),
            at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor keyed_dropout(const at::Tensor& x, const DropoutTokens& tokens,
                         const kernels::DropoutKey& key, float p) {
  return KeyedDropout::apply(x, tokens.samples, tokens.positions, key, static_cast<double>(p));
}

}  // namespace qlora::tensor
