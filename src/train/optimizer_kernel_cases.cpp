// One update of LoRA parameters: the gradients' norm, and AdamW.

#include "kernel_case.h"
#include "qlora/base/narrow.h"
#include "qlora/kernels/adamw.h"
#include "qlora/tensor/bridge.h"

#include <numeric>

namespace qlora::train {
namespace {

using kernels::AdamWTensor;
using kernels::GradientNorm;
using kernels::kAdamWBlock;

enum class State { EightBit, EightBitWithCopies, Float32 };

// The tensors of EXAONE-3.5-2.4B's adapters on all linear layers.
constexpr std::int64_t kLoraTensors = 420;

// Elements of `count` tensors, `total` in all but for rounding: multiples of the rank, of the
// different widths that the projections of a layer have.
std::vector<std::int64_t> lora_sizes(std::int64_t total, std::int64_t count) {
  if (count == 1) return {total};
  constexpr double kShares[] = {0.6, 1.0, 0.4, 2.0};
  std::vector<std::int64_t> sizes;
  for (std::int64_t i = 0; i < count; ++i) {
    const double elements = static_cast<double>(total / count) * kShares[i % 4];
    sizes.push_back(static_cast<std::int64_t>(elements) / kLoraRank * kLoraRank);
  }
  return sizes;
}

std::int64_t padded(std::int64_t elements) { return round_up(elements, kAdamWBlock); }

// A table in GPU memory, with all that it points to.
struct UpdateInputs {
  at::Tensor param, grad, m, v, m_absmax, v_absmax, copy;
  at::Tensor tensors, owners, workspace, norm;
  kernels::AdamWTable table;

  GradientNorm* norm_result() const { return static_cast<GradientNorm*>(norm.mutable_data_ptr()); }
  void find_norm() const {
    kernels::cuda::gradient_norm(table, {.max_norm = 1}, workspace.mutable_data_ptr(),
                                 norm_result(), tensor::current_stream(norm));
  }
  void update(std::int64_t step) const {
    kernels::cuda::adamw(table, {.lr = 1e-4, .weight_decay = 0.01, .step = step}, norm_result(),
                         tensor::current_stream(norm));
  }
};

void allocate(UpdateInputs& inputs, std::int64_t elements, State state) {
  const auto zeros = [](std::int64_t n, at::ScalarType type) {
    return gpu_empty({n}, type).zero_();
  };
  inputs.param = gpu_random({elements}, 0.02, at::kFloat);
  inputs.grad = gpu_empty({elements}, at::kFloat);
  const auto moments = state == State::Float32 ? at::kFloat : at::kByte;
  inputs.m = zeros(elements, moments);
  inputs.v = zeros(elements, moments);
  if (state != State::Float32) {
    inputs.m_absmax = zeros(elements / kAdamWBlock, at::kFloat);
    inputs.v_absmax = zeros(elements / kAdamWBlock, at::kFloat);
  }
  if (state == State::EightBitWithCopies) inputs.copy = gpu_empty({elements});
  inputs.norm = gpu_empty({sizeof(GradientNorm)}, at::kByte);
}

void* at_element(const at::Tensor& tensor, std::int64_t element) {
  return static_cast<std::byte*>(tensor.mutable_data_ptr()) +
         element * static_cast<std::int64_t>(tensor.element_size());
}

// Tensor `index`, which begins at element `first`: A is [rank, in], B is [out, rank].
AdamWTensor entry(const UpdateInputs& inputs, std::size_t index, std::int64_t first,
                  std::int64_t n) {
  AdamWTensor tensor{.param = at_element(inputs.param, first),
                     .grad = at_element(inputs.grad, first),
                     .m = at_element(inputs.m, first),
                     .v = at_element(inputs.v, first),
                     .n = n};
  if (inputs.m_absmax.defined()) {
    tensor.m_absmax = inputs.m_absmax.mutable_data_ptr<float>() + first / kAdamWBlock;
    tensor.v_absmax = inputs.v_absmax.mutable_data_ptr<float>() + first / kAdamWBlock;
  }
  if (inputs.copy.defined()) {
    const std::int64_t columns = index % 2 == 0 ? n / kLoraRank : kLoraRank;
    tensor.copy = {
        .data = at_element(inputs.copy, first), .scale = 2, .columns = columns, .pitch = columns};
  }
  return tensor;
}

// After five updates, so that the codes are those of a run and not of its first step.
constexpr std::int64_t kUpdatesBefore = 5;

UpdateInputs make_inputs(const std::vector<std::int64_t>& sizes, State state) {
  UpdateInputs inputs;
  std::int64_t elements = 0;
  for (const std::int64_t n : sizes) elements += padded(n);
  allocate(inputs, elements, state);
  std::vector<AdamWTensor> tensors;
  std::int64_t first = 0;
  for (const std::int64_t n : sizes) {
    tensors.push_back(entry(inputs, tensors.size(), first, n));
    first += padded(n);
  }
  const std::vector<std::int32_t> owners = kernels::number_chunks(tensors);
  inputs.tensors = gpu_copy(tensors);
  inputs.owners = gpu_copy(owners);
  inputs.table = {.tensors = static_cast<const AdamWTensor*>(inputs.tensors.const_data_ptr()),
                  .owners = static_cast<const std::int32_t*>(inputs.owners.const_data_ptr()),
                  .tensor_count = narrow<std::int64_t>(tensors.size()),
                  .chunk_count = narrow<std::int64_t>(owners.size())};
  inputs.workspace = gpu_empty({kernels::gradient_norm_workspace(inputs.table)}, at::kByte).zero_();
  for (std::int64_t step = 1; step <= kUpdatesBefore; ++step) {
    inputs.grad.normal_(0, 1e-4);
    inputs.find_norm();
    inputs.update(step);
  }
  return inputs;
}

// 8 bit: p is read and written (8), g is read (4), m and v are read and written (2 each), and so
// are a float32 for each 256 of each; 32 bit: m and v take 8 each. A bfloat16 copy is written (2).
double update_bytes(State state) {
  if (state == State::Float32) return 8 + 4 + 16;
  const double copy = state == State::EightBitWithCopies ? 2 : 0;
  return 8 + 4 + 4 + 2 * 8.0 / kAdamWBlock + copy;
}

std::string update_name(State state) {
  switch (state) {
    case State::EightBit: return "adamw 8 bit";
    case State::EightBitWithCopies: return "adamw 8 bit, copies";
    case State::Float32: return "adamw 32 bit";
  }
  return {};
}

KernelCase update_case(const std::vector<std::int64_t>& sizes, double elements,
                       const std::string& shape, State state) {
  return {.kernel = update_name(state),
          .shape = shape,
          .bytes = update_bytes(state) * elements,
          .prepare = [=] {
            const UpdateInputs inputs = make_inputs(sizes, state);
            return KernelWork{[=] { inputs.update(kUpdatesBefore + 1); }};
          }};
}

// Gradients are read.
KernelCase norm_case(const std::vector<std::int64_t>& sizes, double elements,
                     const std::string& shape) {
  return {.kernel = "gradient_norm", .shape = shape, .bytes = 4 * elements, .prepare = [=] {
            const UpdateInputs inputs = make_inputs(sizes, State::EightBit);
            return KernelWork{[=] { inputs.find_norm(); }};
          }};
}

}  // namespace

std::vector<KernelCase> optimizer_cases() {
  constexpr std::int64_t kMega = std::int64_t{1} << 20;
  struct Size {
    std::int64_t total, count;
  };
  std::vector<KernelCase> cases;
  for (const Size size : {Size{kMega, kLoraTensors}, Size{16 * kMega, kLoraTensors},
                          Size{128 * kMega, kLoraTensors}, Size{16 * kMega, 1}}) {
    const std::vector<std::int64_t> sizes = lora_sizes(size.total, size.count);
    const auto elements =
        static_cast<double>(std::accumulate(sizes.begin(), sizes.end(), std::int64_t{0}));
    const std::string shape = fmt::format("{:.1f}M, tensors: {}", elements * 1e-6, size.count);
    cases.push_back(norm_case(sizes, elements, shape));
    for (const State state : {State::EightBit, State::EightBitWithCopies, State::Float32}) {
      cases.push_back(update_case(sizes, elements, shape, state));
    }
  }
  return cases;
}

}  // namespace qlora::train
