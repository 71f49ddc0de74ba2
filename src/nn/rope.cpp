#include "qlora/nn/rope.h"

#include "qlora/base/error.h"

#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

namespace qlora::nn {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

// cos, sin: [S, 1, D/2] or [batch, S, 1, D/2]
at::Tensor turn(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin) {
  const at::Tensor wide = x.to(cos.scalar_type());
  const std::int64_t half = x.size(-1) / 2;
  const at::Tensor x1 = wide.slice(-1, 0, half);
  const at::Tensor x2 = wide.slice(-1, half);
  at::Tensor y = at::empty_like(wide, at::MemoryFormat::Contiguous);
  at::Tensor y1 = y.slice(-1, 0, half);
  at::Tensor y2 = y.slice(-1, half);
  at::mul_out(y1, x1, cos).addcmul_(x2, sin, -1);
  at::mul_out(y2, x2, cos).addcmul_(x1, sin);
  return y.to(x.scalar_type());
}

struct Rotate : torch::autograd::Function<Rotate> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& cos,
                            const at::Tensor& sin) {
    context->save_for_backward({cos, sin});
    return turn(x, cos, sin);
  }

  // A turn's transpose is the turn back.
  static tensor_list backward(AutogradContext* context, const tensor_list& gradients) {
    const auto saved = context->get_saved_variables();
    return {turn(gradients[0], saved[0], saved[1].neg()), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

RopeTable::RopeTable(const std::vector<double>& frequencies, std::int64_t limit, c10::Device device,
                     at::ScalarType dtype)
    : frequencies_(at::tensor(at::ArrayRef<double>(frequencies), at::TensorOptions(at::kDouble))),
      limit_(limit),
      options_(at::TensorOptions(device).dtype(dtype)) {}

at::Tensor RopeTable::rotate(const at::Tensor& x, std::int64_t offset) {
  const Tables all = tables(offset + x.size(1));
  return Rotate::apply(x, all.cos.slice(0, offset), all.sin.slice(0, offset));
}

at::Tensor RopeTable::rotate(const at::Tensor& x, const at::Tensor& positions) {
  const Tables all = tables(x.size(1));
  const auto pick = [&](const at::Tensor& table) {
    return table.index_select(0, positions).unflatten(0, {x.size(0), x.size(1)});
  };
  return Rotate::apply(x, pick(all.cos), pick(all.sin));
}

RopeTable::Tables RopeTable::tables(std::int64_t positions) {
  if (positions > limit_) {
    fail("a context of {} tokens is longer than the {} positions that this model knows; shorten it",
         positions, limit_);
  }
  if (!cos_.defined() || cos_.size(0) < positions) grow(positions);
  return {cos_.slice(0, 0, positions), sin_.slice(0, 0, positions)};
}

void RopeTable::grow(std::int64_t positions) {
  // At least doubled, so that token-by-token generation does not rebuild it at every step.
  const std::int64_t covered = cos_.defined() ? cos_.size(0) : 0;
  const std::int64_t size = std::min(limit_, std::max(positions, 2 * covered));
  const at::Tensor angle = at::outer(at::arange(size, at::kDouble), frequencies_).unsqueeze(1);
  cos_ = angle.cos().to(options_);
  sin_ = angle.sin().to(options_);
}

}  // namespace qlora::nn
