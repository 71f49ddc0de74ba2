#pragma once
// The output projection and the cross-entropy in one: logits never exist as a whole.

#include <ATen/core/Tensor.h>

namespace qlora::tensor {

// hidden: [rows, d], weight: [vocabulary, d], labels: int64 [rows], every label a valid id.
// Returns the sum over rows of -log softmax(hidden · weightᵀ)[label], each times its entry of
// row_weights [rows] where that is defined, a scalar in float32 (float64 for float64 input). Works
// through chunks of rows; the gradient of `hidden` (and of `weight`, where it is wanted) is made in
// the forward pass, while the chunk's logits are at hand.
at::Tensor linear_cross_entropy(const at::Tensor& hidden, const at::Tensor& weight,
                                const at::Tensor& labels, const at::Tensor& row_weights = {});

}  // namespace qlora::tensor
