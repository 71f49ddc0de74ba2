#pragma once
// A Llama's tensors as the fused path reads them.

#include "qlora/fused/decoder.h"
#include "qlora/models/llama.h"
#include "qlora/tensor/parameter.h"

#include <vector>

namespace qlora::models {

// Where layers differ, the sizes of the largest.
fused::DecoderShape decoder_shape(Llama& model);

// Points into the model and into memory of its own: 16-bit copies of the adapters, and one buffer
// in which all their gradients lie: the parameters' gradients from here on, zero at first.
class FusedWeights {
 public:
  // For documents of up to `positions` tokens. seed: of dropout.
  FusedWeights(Llama& model, std::int64_t positions, std::uint64_t seed);

  const fused::DecoderWeights& view() const { return view_; }
  // The adapters' copies, which hold the parameters' values of now; whoever updates the parameters
  // keeps them so.
  std::vector<tensor::CopyTarget> copies() const;
  void zero_gradients() { gradients_.zero_(); }

 private:
  struct Adapter {
    nn::LoraAdapter* source;
    at::Tensor a, scaled_b;  // compute copies
  };

  void add_layer(LlamaLayer& layer);
  void add_group(fused::LayerWeights& layer, std::size_t group,
                 const std::vector<nn::Linear*>& members);
  void add_adapter(nn::LoraAdapter& source, kernels::AugmentedPart& part);
  void place_gradients();
  const void* held(const at::Tensor& tensor);

  Llama& model_;
  at::ScalarType dtype_;
  std::uint64_t seed_;
  fused::DecoderWeights view_;
  std::vector<Adapter> adapters_;  // in the order of layers, groups, parts
  std::vector<at::Tensor> held_;   // converted tensors that the view points into
  at::Tensor gradients_;
};

}  // namespace qlora::models
