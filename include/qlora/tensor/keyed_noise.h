#pragma once
// NEFTune (Jain et al. 2023): noise on the embeddings that an instruction is learned from.

#include "qlora/tensor/keyed_dropout.h"

namespace qlora::tensor {

// Noise for x: [..., d] with tokens.lengths.numel() rows in all, uniform in ±alpha / sqrt(L · d),
// where L is the length of the sample that the token belongs to, without pads. A pure function of
// key, sample, position and feature, so it survives any batch split, packing and resume.
// Shape and type of x.
at::Tensor neftune_noise(const at::Tensor& x, const DropoutTokens& tokens,
                         const kernels::DropoutKey& key, double alpha);

}  // namespace qlora::tensor
