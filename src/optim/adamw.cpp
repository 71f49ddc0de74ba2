#include "qlora/optim/adamw.h"

#include "moments.h"
#include "qlora/base/error.h"
#include "qlora/base/narrow.h"
#include "qlora/kernels/adamw.h"
#include "qlora/tensor/bridge.h"
#include "state_pages.h"
#include "update_tables.h"

#include <ATen/ops/empty.h>

#include <algorithm>

namespace qlora::optim {

using kernels::AdamWTensor;
using kernels::kAdamWBlock;

struct AdamW::Slot {
  tensor::Parameter parameter;
  bool eight_bit = false;
  std::int64_t place = 0;  // of its moments among all of its kind
  Moments moments;         // a view
  std::optional<tensor::CopyTarget> target;
};

namespace {

void* at_element(const at::Tensor& tensor, std::int64_t element) {
  return static_cast<std::byte*>(tensor.data_ptr()) +
         element * static_cast<std::int64_t>(tensor.element_size());
}

kernels::ComputeCopy copy_of(const tensor::CopyTarget& target, std::int64_t first) {
  const std::int64_t columns = target.copy.size(1);
  return {.data = target.copy.data_ptr(),
          .dtype = tensor::dtype_of(target.copy),
          .scale = target.scale,
          .first = first,
          .columns = columns,
          .pitch = std::max(target.copy.stride(0), columns)};
}

// The gradient's part of a table's entry for elements [begin, end) of a parameter.
AdamWTensor entry(const tensor::Parameter& parameter, std::int64_t begin, std::int64_t end) {
  const at::Tensor& gradient = parameter.value.grad();
  return {.param = at_element(parameter.value, begin),
          .grad = at_element(gradient, begin),
          .n = end - begin,
          .param_dtype = tensor::dtype_of(parameter.value),
          .grad_dtype = tensor::dtype_of(gradient),
          .decay = parameter.decay};
}

// Its state's part: that of `moments` from element `place` on.
void add_state(const Moments& moments, std::int64_t place, AdamWTensor& entry) {
  entry.m = at_element(moments.m, place);
  entry.v = at_element(moments.v, place);
  if (!moments.eight_bit()) return;
  entry.m_absmax = moments.m_absmax.data_ptr<float>() + place / kAdamWBlock;
  entry.v_absmax = moments.v_absmax.data_ptr<float>() + place / kAdamWBlock;
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

AdamW::AdamW(std::vector<tensor::Parameter> parameters, const AdamWOptions& options,
             std::vector<tensor::CopyTarget> copies)
    : options_(options),
      device_(parameters.empty() ? c10::Device(c10::kCPU) : parameters.front().value.device()),
      tables_(std::make_unique<UpdateTables>()),
      norm_(at::empty({static_cast<std::int64_t>(sizeof(kernels::GradientNorm))},
                      at::TensorOptions(at::kByte).device(device_))) {
  for (auto& parameter : parameters) {
    QLORA_ASSERT(parameter.value.is_contiguous() && parameter.value.device() == device_);
    const bool eight_bit = options.eight_bit && parameter.value.numel() >= kMin8bitElements;
    slots_.push_back({.parameter = std::move(parameter), .eight_bit = eight_bit});
  }
  for (const bool eight_bit : {true, false}) allocate_moments(eight_bit);
  attach_copies(std::move(copies));
}

AdamW::~AdamW() = default;

bool AdamW::is_paged(const Slot& slot) const {
  return pages_ != nullptr && slot.eight_bit == options_.eight_bit;
}

// The moments of all tensors whose state is of one kind.
void AdamW::allocate_moments(bool eight_bit) {
  std::int64_t elements = 0;
  for (Slot& slot : slots_) {
    if (slot.eight_bit != eight_bit) continue;
    slot.place = elements;
    elements += round_up(slot.parameter.value.numel(), kAdamWBlock);
  }
  const bool paged =
      options_.paged && device_.is_cuda() && eight_bit == options_.eight_bit && elements > 0;
  const auto place = at::TensorOptions(paged ? c10::Device(c10::kCPU) : device_);
  const Moments all = Moments::zeros(elements, eight_bit, place.pinned_memory(paged));
  for (Slot& slot : slots_) {
    if (slot.eight_bit != eight_bit) continue;
    slot.moments = all.slice(slot.place, slot.place + slot.parameter.value.numel());
  }
  if (paged) pages_ = std::make_unique<StatePages>(all, device_);
}

void AdamW::attach_copies(std::vector<tensor::CopyTarget> copies) {
  for (tensor::CopyTarget& target : copies) {
    const auto slot = std::ranges::find_if(
        slots_, [&](const Slot& s) { return s.parameter.value.is_same(target.parameter); });
    QLORA_ASSERT(slot != slots_.end());
    const at::Tensor& copy = target.copy;
    QLORA_ASSERT(copy.dim() == 2 && copy.sizes() == slot->parameter.value.sizes());
    QLORA_ASSERT(copy.stride(1) == 1 && copy.device() == device_);
    slot->target = std::move(target);
  }
  refresh_copies();
}

void AdamW::refresh_copies() {
  const at::NoGradGuard no_grad;
  for (Slot& slot : slots_) {
    if (!slot.target) continue;
    slot.target->copy.copy_(slot.parameter.value.to(at::kFloat) * slot.target->scale);
  }
}

AdamW::Tables AdamW::tables() {
  Tables tables(pages_ ? 2 + pages_->count() : 1);
  for (Slot& slot : slots_) {
    at::Tensor& gradient = slot.parameter.value.mutable_grad();
    if (!gradient.defined() || gradient.numel() == 0) continue;
    if (!gradient.is_contiguous()) gradient = gradient.contiguous();
    AdamWTensor whole = entry(slot.parameter, 0, gradient.numel());
    if (slot.target) whole.copy = copy_of(*slot.target, 0);
    if (!is_paged(slot)) add_state(slot.moments, 0, whole);
    tables[0].push_back(whole);
    if (is_paged(slot)) {
      add_to_pages(slot, tables);
    } else if (pages_) {
      tables[1].push_back(whole);
    }
  }
  return tables;
}

void AdamW::add_to_pages(const Slot& slot, Tables& tables) const {
  const std::int64_t n = slot.parameter.value.numel();
  for (std::int64_t page = pages_->page_of(slot.place); page < pages_->count(); ++page) {
    const std::int64_t begin = std::max(pages_->begin(page) - slot.place, std::int64_t{0});
    const std::int64_t end = std::min(pages_->end(page) - slot.place, n);
    if (begin >= end) return;
    AdamWTensor part = entry(slot.parameter, begin, end);
    if (slot.target) part.copy = copy_of(*slot.target, begin);
    add_state(pages_->window(page), slot.place + begin - pages_->begin(page), part);
    tables[2 + page].push_back(part);
  }
}

void AdamW::step(double learning_rate, const StepOptions& options) {
  settle();
  const auto wanted = tables();
  pending_ = !wanted[0].empty();
  if (!pending_) {
    ++steps_;
    outcome_ = {};
    return;
  }
  tables_->set(wanted, device_);
  const auto run = device_.is_cuda() ? kernels::cuda::gradient_norm : kernels::cpu::gradient_norm;
  run(tables_->at(0), {.gradient_scale = options.gradient_scale, .max_norm = options.max_norm},
      tables_->norm_workspace(), norm(), tensor::current_stream(slots_.front().parameter.value));
  norm_.send();
  queue_updates(learning_rate);
}

void AdamW::queue_updates(double learning_rate) {
  const kernels::AdamWStep step{.lr = static_cast<float>(learning_rate),
                                .beta1 = static_cast<float>(options_.beta1),
                                .beta2 = static_cast<float>(options_.beta2),
                                .eps = static_cast<float>(options_.epsilon),
                                .weight_decay = static_cast<float>(options_.weight_decay),
                                .step = steps_ + 1,
                                .zero_gradients = true};
  const auto update = [&](std::size_t table) {
    const auto run = device_.is_cuda() ? kernels::cuda::adamw : kernels::cpu::adamw;
    run(tables_->at(table), step, norm(), tensor::current_stream(slots_.front().parameter.value));
  };
  if (!pages_) return update(0);
  update(1);
  for (std::int64_t page = 0; page < pages_->count(); ++page) {
    const auto table = static_cast<std::size_t>(2 + page);
    if (tables_->at(table).tensor_count == 0) continue;
    pages_->update(page, [&] { update(table); });
  }
}

kernels::GradientNorm* AdamW::norm() const {
  return static_cast<kernels::GradientNorm*>(norm_.value().mutable_data_ptr());
}

void AdamW::settle() const {
  if (!pending_) return;
  const auto& norm = *static_cast<const kernels::GradientNorm*>(norm_.wait().const_data_ptr());
  outcome_ = {.gradient_norm = norm.norm, .updated = norm.finite};
  if (norm.finite) ++steps_;
  pending_ = false;
}

StepOutcome AdamW::outcome() const {
  settle();
  return outcome_;
}

std::int64_t AdamW::steps() const {
  settle();
  return steps_;
}

std::int64_t AdamW::state_bytes() const {
  std::size_t bytes = 0;
  for (const Slot& slot : slots_) {
    for (const auto& [name, tensor] : slot.moments.tensors()) bytes += tensor.nbytes();
  }
  return static_cast<std::int64_t>(bytes);
}

std::vector<tensor::Parameter> AdamW::state() const {
  if (pages_) pages_->synchronize();
  std::vector<tensor::Parameter> result;
  for (const Slot& slot : slots_) {
    for (const auto& [name, tensor] : slot.moments.tensors()) {
      result.push_back({fmt::format("{}.{}", slot.parameter.name, name), tensor.cpu(), false});
    }
  }
  return result;
}

void AdamW::load_state(const std::vector<tensor::Parameter>& stored, std::int64_t steps,
                       const std::string& where) {
  settle();
  if (pages_) pages_->synchronize();
  for (Slot& slot : slots_) {
    for (auto& [suffix, state] : slot.moments.tensors()) {
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
  refresh_copies();
}

}  // namespace qlora::optim
