#include "qlora/tensor/keyed_noise.h"

#include "qlora/base/error.h"
#include "qlora/kernels/keyed_noise.h"
#include "qlora/tensor/bridge.h"

#include <ATen/ops/empty.h>

namespace qlora::tensor {

at::Tensor neftune_noise(const at::Tensor& x, const DropoutTokens& tokens,
                         const kernels::DropoutKey& key, double alpha) {
  const std::int64_t columns = x.size(-1);
  const std::int64_t rows = x.numel() / columns;
  QLORA_ASSERT(tokens.lengths.defined() && tokens.lengths.numel() == rows);
  const at::Tensor scales = alpha / (tokens.lengths * columns).to(at::kFloat).sqrt();
  at::Tensor noise = at::empty(x.sizes(), x.options().requires_grad(false));
  const auto run = x.is_cuda() ? kernels::cuda::keyed_noise : kernels::cpu::keyed_noise;
  run(dtype_of(x), rows, columns, tokens.samples.const_data_ptr<std::int64_t>(),
      tokens.positions.const_data_ptr<std::int64_t>(), scales.const_data_ptr<float>(), key,
      noise.mutable_data_ptr(), current_stream(x));
  return noise;
}

}  // namespace qlora::tensor
