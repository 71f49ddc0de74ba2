#include "qlora/optim/adamw.h"

#include "qlora/base/error.h"
#include "qlora/kernels/squared_norm.h"
#include "qlora/tensor/bridge.h"

#include <cmath>
#include <cstring>

namespace qlora::optim {
namespace {

// Adds the squared norm of one gradient to `sum`, a float64 scalar on the same device.
void add_squared_norm(const at::Tensor& gradient, at::Tensor& sum) {
  const at::Tensor g = gradient.contiguous();
  at::Tensor workspace = at::empty({kernels::squared_norm_workspace(g.numel())}, sum.options());
  const auto run = g.is_cuda() ? kernels::cuda::squared_norm : kernels::cpu::squared_norm;
  run(g.const_data_ptr(), tensor::dtype_of(g), g.numel(), workspace.mutable_data_ptr<double>(),
      sum.mutable_data_ptr<double>(), tensor::current_stream(g));
}

void* at_element(const at::Tensor& tensor, std::int64_t element) {
  return static_cast<std::byte*>(tensor.data_ptr()) +
         element * static_cast<std::int64_t>(tensor.element_size());
}

void update_range(const at::Tensor& parameter, const at::Tensor& gradient, const MomentState& part,
                  std::int64_t begin, std::int64_t end, const kernels::AdamWStep& step) {
  void* p = at_element(parameter, begin);
  const void* g = at_element(gradient, begin);
  const DType p_dtype = tensor::dtype_of(parameter);
  const DType g_dtype = tensor::dtype_of(gradient);
  const auto stream = tensor::current_stream(parameter);
  if (part.eight_bit()) {
    const kernels::AdamW8bitState state{.m_codes = part.m.data_ptr<std::uint8_t>(),
                                        .v_codes = part.v.data_ptr<std::uint8_t>(),
                                        .m_absmax = part.m_absmax.data_ptr<float>(),
                                        .v_absmax = part.v_absmax.data_ptr<float>()};
    const auto run = parameter.is_cuda() ? kernels::cuda::adamw_8bit : kernels::cpu::adamw_8bit;
    run(state, p, p_dtype, g, g_dtype, end - begin, step, stream);
  } else {
    const kernels::AdamW32bitState state{.m = part.m.data_ptr<float>(),
                                         .v = part.v.data_ptr<float>()};
    const auto run = parameter.is_cuda() ? kernels::cuda::adamw_32bit : kernels::cpu::adamw_32bit;
    run(state, p, p_dtype, g, g_dtype, end - begin, step, stream);
  }
}

const at::Tensor& find_stored(const std::vector<tensor::Parameter>& stored, const std::string& name,
                              const std::string& where) {
  for (const auto& candidate : stored) {
    if (candidate.name == name) return candidate.value;
  }
  fail("{}: optimizer state '{}' is missing; was the run started with another optimizer?", where,
       name);
}

}  // namespace

AdamW::AdamW(std::vector<tensor::Parameter> parameters, const AdamWOptions& options)
    : options_(options) {
  for (auto& parameter : parameters) {
    QLORA_ASSERT(parameter.value.is_contiguous());
    const bool eight_bit = options.eight_bit && parameter.value.numel() >= kMin8bitElements;
    MomentState state = make_state(parameter.value, eight_bit, options.paged);
    slots_.push_back({std::move(parameter), std::move(state)});
  }
}

double AdamW::gradient_norm(double scale) const {
  at::Tensor sum;
  for (const Slot& slot : slots_) {
    const at::Tensor& gradient = slot.parameter.value.grad();
    if (!gradient.defined()) continue;
    if (!sum.defined()) sum = at::zeros({1}, gradient.options().dtype(at::kDouble));
    add_squared_norm(gradient, sum);
  }
  return sum.defined() ? std::sqrt(sum.item<double>()) * scale : 0.0;
}

kernels::AdamWStep AdamW::step_arguments(const Slot& slot, double learning_rate,
                                         double gradient_scale) const {
  return {.lr = static_cast<float>(learning_rate),
          .beta1 = static_cast<float>(options_.beta1),
          .beta2 = static_cast<float>(options_.beta2),
          .eps = static_cast<float>(options_.epsilon),
          .weight_decay = slot.parameter.decay ? static_cast<float>(options_.weight_decay) : 0.0f,
          .step = steps_,
          .grad_scale = static_cast<float>(gradient_scale)};
}

void AdamW::step(double learning_rate, double gradient_scale) {
  ++steps_;
  for (Slot& slot : slots_) {
    const at::Tensor& parameter = slot.parameter.value;
    if (!parameter.grad().defined()) continue;
    const at::Tensor gradient = parameter.grad().contiguous();
    const kernels::AdamWStep arguments = step_arguments(slot, learning_rate, gradient_scale);
    pager_.update(slot.state, parameter.numel(),
                  [&](const MomentState& part, std::int64_t begin, std::int64_t end) {
                    update_range(parameter, gradient, part, begin, end, arguments);
                  });
  }
}

void AdamW::zero_gradients() {
  for (Slot& slot : slots_) slot.parameter.value.mutable_grad().reset();
}

std::int64_t AdamW::state_bytes() const {
  std::size_t bytes = 0;
  for (const Slot& slot : slots_) {
    for (const auto& [name, tensor] : slot.state.tensors()) bytes += tensor.nbytes();
  }
  return static_cast<std::int64_t>(bytes);
}

std::vector<tensor::Parameter> AdamW::state() const {
  pager_.synchronize();
  std::vector<tensor::Parameter> result;
  for (const Slot& slot : slots_) {
    for (const auto& [name, tensor] : slot.state.tensors()) {
      result.push_back({fmt::format("{}.{}", slot.parameter.name, name), tensor.cpu(), false});
    }
  }
  return result;
}

void AdamW::load_state(const std::vector<tensor::Parameter>& stored, std::int64_t steps,
                       const std::string& where) {
  pager_.synchronize();
  for (Slot& slot : slots_) {
    for (auto& [suffix, state] : slot.state.tensors()) {
      const std::string name = fmt::format("{}.{}", slot.parameter.name, suffix);
      const at::Tensor& found = find_stored(stored, name, where);
      if (found.sizes() != state.sizes() || found.scalar_type() != state.scalar_type()) {
        fail(
            "{}: optimizer state '{}' is {} of {} elements, expected {} of {}; was the run started "
            "with another optimizer?",
            where, name, name_of(tensor::dtype_of(found)), found.numel(),
            name_of(tensor::dtype_of(state)), state.numel());
      }
      at::Tensor(state).copy_(found);
    }
  }
  steps_ = steps;
}

}  // namespace qlora::optim
