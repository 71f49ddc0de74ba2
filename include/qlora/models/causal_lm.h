#pragma once
// What every language model of this project can do; models/llama.h is the main implementation.

#include "qlora/io/model_config.h"
#include "qlora/nn/attention.h"
#include "qlora/nn/context.h"
#include "qlora/nn/embedding.h"
#include "qlora/nn/linear.h"
#include "qlora/nn/rms_norm.h"

#include <functional>
#include <memory>
#include <string>

namespace qlora::models {

// Called with each part of a model under its path in the checkpoint ("model.layers.0.self_attn
// .q_proj"). Quantizing, attaching adapters, merging and saving are such walks.
struct ModuleVisitor {
  std::function<void(const std::string& path, nn::Linear&)> linear;
  std::function<void(const std::string& path, nn::Embedding&)> embedding;
  std::function<void(const std::string& path, nn::RmsNorm&)> norm;
};

class CausalLM {
 public:
  virtual ~CausalLM() = default;

  // ids: int64 [batch, S]. Returns the normalized hidden states [batch, S, hidden_size]. With a
  // cache, the ids come after the positions that it holds, and it grows by S.
  virtual at::Tensor hidden_states(const at::Tensor& ids, const nn::ForwardContext& context,
                                   nn::KvCache* cache = nullptr) = 0;

  // Logits [..., vocabulary] of hidden states [..., hidden_size].
  virtual at::Tensor logits(const at::Tensor& hidden, const nn::ForwardContext& context) = 0;

  // Sum of the cross-entropy over the labelled tokens, each by its context.label_weights where
  // these are defined, a float32 (or float64) scalar. labels: int64 [batch, S], unshifted (token t
  // is predicted at t - 1), -100 where nothing is learnt.
  virtual at::Tensor loss_sum(const at::Tensor& hidden, const at::Tensor& labels,
                              const nn::ForwardContext& context) = 0;

  // Every module in the order of the forward pass; a tied output projection is not visited.
  virtual void visit(const ModuleVisitor& visitor) = 0;

  virtual const io::ModelConfig& config() const = 0;
  virtual c10::Device device() const = 0;
};

}  // namespace qlora::models
