#include "qlora/nn/lora.h"

#include "qlora/base/error.h"
#include "qlora/base/random.h"

#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/zeros.h>

#include <cmath>

namespace qlora::nn {
namespace {

// Fills [rows, columns] with one draw per element; the same on every device.
template <class Draw>
at::Tensor drawn(std::int64_t rows, std::int64_t columns, const LoraOptions& options,
                 c10::Device device, Draw draw) {
  at::Tensor values = at::empty({rows, columns}, at::kFloat);
  float* out = values.mutable_data_ptr<float>();
  for (std::int64_t i = 0; i < rows * columns; ++i) out[i] = draw(static_cast<std::uint64_t>(i));
  return values.to(device, options.dtype);
}

at::Tensor uniform(std::int64_t rows, std::int64_t columns, const LoraOptions& options,
                   const RandomStream& stream, c10::Device device) {
  const float bound = 1.0f / std::sqrt(static_cast<float>(columns));
  return drawn(rows, columns, options, device,
               [&](std::uint64_t i) { return bound * (2.0f * stream.uniform(i) - 1.0f); });
}

at::Tensor initial_a(std::int64_t in, const LoraOptions& options, const RandomStream& stream,
                     c10::Device device) {
  if (options.init != LoraInit::Gaussian) return uniform(options.rank, in, options, stream, device);
  const float deviation = 1.0f / static_cast<float>(options.rank);
  return drawn(options.rank, in, options, device,
               [&](std::uint64_t i) { return deviation * stream.normal(i); });
}

at::Tensor initial_b(std::int64_t out, const LoraOptions& options, const RandomStream& stream,
                     c10::Device device) {
  if (options.init == LoraInit::Random) return uniform(out, options.rank, options, stream, device);
  return at::zeros({out, options.rank}, at::TensorOptions(device).dtype(options.dtype));
}

}  // namespace

LoraAdapter::LoraAdapter(std::int64_t in_features, std::int64_t out_features,
                         const LoraOptions& options, std::string_view path, std::uint64_t seed,
                         c10::Device device)
    : a(initial_a(in_features, options, {seed, fmt::format("{}.lora_A", path)}, device)),
      b(initial_b(out_features, options, {seed, fmt::format("{}.lora_B", path)}, device)),
      scaling_(options.scaling),
      dropout_(options.dropout),
      module_key_(stable_hash(path)) {
  a.requires_grad_(true);
  b.requires_grad_(true);
}

at::Tensor LoraAdapter::add_to(const at::Tensor& base, const at::Tensor& x,
                               const ForwardContext& context) const {
  const auto dtype = base.scalar_type();
  at::Tensor input = x.to(dtype);
  if (context.training && dropout_ > 0) {
    const kernels::DropoutKey key{.seed = context.seed, .module = module_key_};
    input = tensor::keyed_dropout(input, context.tokens, key, static_cast<float>(dropout_));
  }
  // [rows, r], then [rows, out]
  const at::Tensor reduced = at::linear(input, a.to(dtype)).reshape({-1, a.size(0)});
  const at::Tensor flat_base = base.reshape({-1, base.size(-1)});
  return at::addmm(flat_base, reduced, b.to(dtype).t(), /*beta=*/1, /*alpha=*/scaling_)
      .view(base.sizes());
}

at::Tensor LoraAdapter::delta() const {
  const auto wide = a.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  return at::matmul(b.detach().to(wide), a.detach().to(wide)) * scaling_;
}

}  // namespace qlora::nn
