#pragma once
// Dropout whose mask is named, not drawn: it depends on what is dropped, not on when.

#include "qlora/kernels/dropout.h"

#include <ATen/core/Tensor.h>

namespace qlora::tensor {

// Which random decisions a batch's tokens take part in.
struct DropoutTokens {
  at::Tensor samples;    // int64 [tokens]: kernels::sample_name of the token's sample
  at::Tensor positions;  // int64 [tokens]: position inside that sample
  at::Tensor lengths;    // int64 [tokens]: tokens of that sample; not for dropout
};

// x: [..., features] with `tokens` rows in all. An element is kept with probability 1 - p and
// scaled by 1 / (1 - p); the decision is a pure function of key, sample, position and feature, so
// it survives any batch split, recompute, packing and resume.
at::Tensor keyed_dropout(const at::Tensor& x, const DropoutTokens& tokens,
                         const kernels::DropoutKey& key, float p);

}  // namespace qlora::tensor
