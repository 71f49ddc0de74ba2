#pragma once
// The Llama family: RMSNorm before each sub-layer, rotary attention with grouped keys, SwiGLU.
// What differs between its members (biases, q/k norm, names, RoPE scaling) io::ModelConfig states.

#include "qlora/models/causal_lm.h"
#include "qlora/nn/rope.h"

#include <vector>

namespace qlora::models {

struct LlamaAttention {
  nn::Linear q_proj, k_proj, v_proj, o_proj;
  nn::RmsNorm q_norm, k_norm;  // over head_dim; undefined where the family has none
};

struct LlamaMlp {
  nn::Linear gate_proj, up_proj, down_proj;
};

struct LlamaLayer {
  nn::RmsNorm input_norm;
  LlamaAttention attention;
  nn::RmsNorm post_attention_norm;
  LlamaMlp mlp;
};

struct LlamaParts {
  nn::Embedding embedding;
  std::vector<LlamaLayer> layers;
  nn::RmsNorm final_norm;
  nn::Linear lm_head;  // empty where the model ties it to the embedding
};

class Llama final : public CausalLM {
 public:
  // `dtype`: element type of the activations.
  Llama(io::ModelConfig config, LlamaParts parts, at::ScalarType dtype);

  at::Tensor hidden_states(const at::Tensor& ids, const nn::ForwardContext& context,
                           nn::KvCache* cache) override;
  at::Tensor logits(const at::Tensor& hidden, const nn::ForwardContext& context) override;
  at::Tensor loss_sum(const at::Tensor& hidden, const at::Tensor& labels,
                      const nn::ForwardContext& context) override;
  void visit(const ModuleVisitor& visitor) override;
  const io::ModelConfig& config() const override { return config_; }
  c10::Device device() const override { return parts_.final_norm.weight().device(); }

  // For the fused path, which reads the weights itself.
  LlamaParts& parts() { return parts_; }
  nn::RopeTable& rope() { return rope_; }
  at::ScalarType dtype() const { return dtype_; }
  // The output projection where it is one dense matrix and nothing else; null otherwise.
  const at::Tensor* plain_head_weight();

 private:
  at::Tensor run_layer(std::size_t index, const at::Tensor& x, const nn::ForwardContext& context,
                       nn::KvCache* cache);
  at::Tensor attend(std::size_t index, const at::Tensor& x, const nn::ForwardContext& context,
                    nn::KvCache* cache);

  io::ModelConfig config_;
  LlamaParts parts_;
  at::ScalarType dtype_;
  nn::RopeTable rope_;
};

}  // namespace qlora::models
