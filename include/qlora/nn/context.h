#pragma once
// What one forward pass knows besides its input.

#include "qlora/tensor/keyed_dropout.h"

#include <cstdint>
#include <vector>

namespace qlora::nn {

// Passed by reference through every layer of one forward pass.
struct ForwardContext {
  bool training = false;           // dropout on
  tensor::DropoutTokens tokens;    // defined where dropout or noise is used or rows are packed
  double neftune_noise_alpha = 0;  // noise on the embeddings (tensor/keyed_noise.h); 0: none
  // Tokens of each document where rows hold several: those of the first row, then of the next, pads
  // counted with the last of their row. Empty: every row is one document.
  std::vector<std::int64_t> documents;
  at::Tensor label_weights;  // float32 [batch, S] of each label's loss; undefined: all 1
  std::uint64_t seed = 0;
  bool recompute_activations = false;  // gradient checkpointing of the decoder blocks
};

}  // namespace qlora::nn
