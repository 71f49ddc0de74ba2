#pragma once
// What one forward pass knows besides its input.

#include "qlora/tensor/keyed_dropout.h"

#include <cstdint>

namespace qlora::nn {

// Passed by reference through every layer of one forward pass.
struct ForwardContext {
  bool training = false;         // dropout on
  tensor::DropoutTokens tokens;  // defined where training is set and dropout is used
  std::uint64_t seed = 0;
  bool recompute_activations = false;  // gradient checkpointing of the decoder blocks
};

}  // namespace qlora::nn
