#include "qlora/nn/embedding.h"

#include <ATen/ops/embedding.h>

namespace qlora::nn {

at::Tensor Embedding::forward(const at::Tensor& ids, at::ScalarType dtype) const {
  return at::embedding(weight_, ids.to(weight_.device())).to(ids.device(), dtype);
}

void Embedding::train_fully() {
  weight_ =
      weight_.detach().to(at::kFloat, /*non_blocking=*/false, /*copy=*/true).requires_grad_(true);
}

}  // namespace qlora::nn
