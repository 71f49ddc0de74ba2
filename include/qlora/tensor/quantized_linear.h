#pragma once
// y = x · Wᵀ with a 4-bit frozen W, under autograd.

#include "qlora/tensor/quantized_weight.h"

namespace qlora::tensor {

// x: [..., in], result: [..., out] in x's element type. The product runs in `compute_dtype`: x is
// cast to it and the result back, as the HF stack does. Nothing dense is kept for backward, which
// dequantizes again: dX = dY · W. W gets no gradient.
at::Tensor quantized_linear(const at::Tensor& x, const QuantizedWeightPtr& weight,
                            at::ScalarType compute_dtype);

}  // namespace qlora::tensor
