#pragma once
// Every tensor that a model of a known architecture has, from its configuration alone.

#include "qlora/io/model_config.h"
#include "qlora/io/weight_source.h"

#include <cstdint>
#include <string>
#include <vector>

namespace qlora::run {

struct ModelTensor {
  io::Role role = io::Role::Embedding;
  std::string module;     // "model.layers.0.self_attn.q_proj"
  std::string parameter;  // "weight" or "bias"
  std::vector<std::int64_t> shape;

  std::string name() const { return module + "." + parameter; }
  std::int64_t elements() const;
  // The weight of a linear layer: what is quantized and what carries adapters.
  bool is_linear_weight() const;
};

// In the order of the forward pass; a tied output projection is not listed.
std::vector<ModelTensor> model_tensors(const io::ModelConfig& config);

// The same, each known to be in `source` with its shape. Throws Error naming the first that is not.
std::vector<ModelTensor> model_tensors(const io::ModelConfig& config,
                                       const io::WeightSource& source);

}  // namespace qlora::run
