#include "qlora/models/llama.h"

#include "qlora/base/error.h"
#include "qlora/base/random.h"
#include "qlora/kernels/cross_entropy.h"
#include "qlora/nn/recompute.h"
#include "qlora/tensor/keyed_noise.h"
#include "qlora/tensor/linear_cross_entropy.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace qlora::models {
namespace {

// theta^(-2i / head_dim), divided as the model's RoPE scaling says.
std::vector<double> rope_frequencies(const io::ModelConfig& config) {
  std::vector<double> frequencies = io::rope_frequency_divisors(config);
  for (std::size_t i = 0; i < frequencies.size(); ++i) {
    const double exponent = -2.0 * static_cast<double>(i) / static_cast<double>(config.head_dim);
    frequencies[i] = std::pow(config.rope_theta, exponent) / frequencies[i];
  }
  return frequencies;
}

// Tables in float32, but float64 arithmetic keeps float64 tables.
at::ScalarType table_dtype(at::ScalarType activations) {
  return activations == at::kDouble ? at::kDouble : at::kFloat;
}

// [batch, S, heads · D] -> [batch, S, heads, D], each head normalized where the family does so.
at::Tensor split_heads(const at::Tensor& x, std::int64_t head_dim, const nn::RmsNorm& norm) {
  const at::Tensor heads = x.view({x.size(0), x.size(1), x.size(2) / head_dim, head_dim});
  return norm.defined() ? norm.forward(heads) : heads;
}

at::Tensor swiglu(const LlamaMlp& mlp, const at::Tensor& x, const nn::ForwardContext& context) {
  const at::Tensor gate = mlp.gate_proj.forward(x, context);
  const at::Tensor up = mlp.up_proj.forward(x, context);
  return mlp.down_proj.forward(at::silu(gate) * up, context);
}

}  // namespace

Llama::Llama(io::ModelConfig config, LlamaParts parts, at::ScalarType dtype)
    : config_(std::move(config)),
      parts_(std::move(parts)),
      dtype_(dtype),
      rope_(rope_frequencies(config_), config_.context_limit(), Llama::device(),
            table_dtype(dtype)) {}

at::Tensor Llama::hidden_states(const at::Tensor& ids, const nn::ForwardContext& context,
                                nn::KvCache* cache) {
  at::Tensor x = parts_.embedding.forward(ids, dtype_);
  if (context.neftune_noise_alpha > 0) {
    const kernels::DropoutKey key{.seed = context.seed, .module = stable_hash("neftune")};
    x = x + tensor::neftune_noise(x, context.tokens, key, context.neftune_noise_alpha);
  }
  for (std::size_t i = 0; i < parts_.layers.size(); ++i) {
    const auto layer = [this, i, &context, cache](const at::Tensor& in) {
      return run_layer(i, in, context, cache);
    };
    x = context.recompute_activations ? nn::recompute(layer, x) : layer(x);
  }
  if (cache != nullptr) cache->advance(ids.size(1));
  return parts_.final_norm.forward(x);
}

at::Tensor Llama::run_layer(std::size_t index, const at::Tensor& x,
                            const nn::ForwardContext& context, nn::KvCache* cache) {
  const LlamaLayer& layer = parts_.layers[index];
  const at::Tensor h = x + attend(index, layer.input_norm.forward(x), context, cache);
  return h + swiglu(layer.mlp, layer.post_attention_norm.forward(h), context);
}

at::Tensor Llama::attend(std::size_t index, const at::Tensor& x, const nn::ForwardContext& context,
                         nn::KvCache* cache) {
  const LlamaAttention& attention = parts_.layers[index].attention;
  const std::int64_t offset = cache == nullptr ? 0 : cache->length();
  const at::Tensor q =
      split_heads(attention.q_proj.forward(x, context), config_.head_dim, attention.q_norm);
  const at::Tensor k =
      split_heads(attention.k_proj.forward(x, context), config_.head_dim, attention.k_norm);
  at::Tensor values = split_heads(attention.v_proj.forward(x, context), config_.head_dim, {});
  if (!context.documents.empty()) {
    QLORA_ASSERT(cache == nullptr);
    const at::Tensor& positions = context.tokens.positions;
    const at::Tensor y = nn::causal_attention(
        rope_.rotate(q, positions), rope_.rotate(k, positions), values, context.documents);
    return attention.o_proj.forward(y, context);
  }
  const at::Tensor turned_q = rope_.rotate(q, offset);
  at::Tensor keys = rope_.rotate(k, offset);
  if (cache != nullptr) {
    std::tie(keys, values) = cache->append(static_cast<std::int64_t>(index), keys, values);
  }
  return attention.o_proj.forward(nn::causal_attention(turned_q, keys, values), context);
}

at::Tensor Llama::logits(const at::Tensor& hidden, const nn::ForwardContext& context) {
  if (config_.tie_word_embeddings) {
    return at::linear(hidden, parts_.embedding.weight().to(hidden.scalar_type()));
  }
  return parts_.lm_head.forward(hidden, context);
}

at::Tensor Llama::loss_sum(const at::Tensor& hidden, const at::Tensor& labels,
                           const nn::ForwardContext& context) {
  const at::Tensor targets = labels.slice(1, 1).reshape({-1});
  const at::Tensor labelled = at::nonzero(targets != kernels::kIgnoredLabel).squeeze(1);
  const at::Tensor rows =
      hidden.slice(1, 0, -1).reshape({-1, hidden.size(2)}).index_select(0, labelled);
  const at::Tensor wanted = targets.index_select(0, labelled);
  at::Tensor weights;
  if (context.label_weights.defined()) {
    weights = context.label_weights.slice(1, 1).reshape({-1}).index_select(0, labelled);
  }
  if (const at::Tensor* weight = plain_head_weight()) {
    return tensor::linear_cross_entropy(rows, weight->to(dtype_), wanted, weights);
  }
  const at::Tensor wide = logits(rows, context).to(table_dtype(dtype_));
  if (!weights.defined()) return at::cross_entropy_loss(wide, wanted, {}, at::Reduction::Sum);
  return at::cross_entropy_loss(wide, wanted, {}, at::Reduction::None).mul(weights).sum();
}

const at::Tensor* Llama::plain_head_weight() {
  if (config_.tie_word_embeddings) return &parts_.embedding.weight();
  nn::Linear& head = parts_.lm_head;
  const bool plain = !head.quantized() && !head.adapter() && !head.bias().defined();
  return plain ? &head.weight() : nullptr;
}

void Llama::visit(const ModuleVisitor& visitor) {
  using io::Role;
  const auto path = [this](Role role, std::size_t layer = 0) {
    return io::module_path(config_.architecture, role, static_cast<std::int64_t>(layer));
  };
  const auto norm = [&](const std::string& name, nn::RmsNorm& module) {
    if (visitor.norm && module.defined()) visitor.norm(name, module);
  };
  const auto linear = [&](const std::string& name, nn::Linear& module) {
    if (visitor.linear) visitor.linear(name, module);
  };
  if (visitor.embedding) visitor.embedding(path(Role::Embedding), parts_.embedding);
  for (std::size_t i = 0; i < parts_.layers.size(); ++i) {
    LlamaLayer& layer = parts_.layers[i];
    norm(path(Role::InputNorm, i), layer.input_norm);
    linear(path(Role::QProj, i), layer.attention.q_proj);
    linear(path(Role::KProj, i), layer.attention.k_proj);
    linear(path(Role::VProj, i), layer.attention.v_proj);
    norm(path(Role::QNorm, i), layer.attention.q_norm);
    norm(path(Role::KNorm, i), layer.attention.k_norm);
    linear(path(Role::OProj, i), layer.attention.o_proj);
    norm(path(Role::PostAttentionNorm, i), layer.post_attention_norm);
    linear(path(Role::GateProj, i), layer.mlp.gate_proj);
    linear(path(Role::UpProj, i), layer.mlp.up_proj);
    linear(path(Role::DownProj, i), layer.mlp.down_proj);
  }
  norm(path(Role::FinalNorm), parts_.final_norm);
  if (!config_.tie_word_embeddings) linear(path(Role::LmHead), parts_.lm_head);
}

}  // namespace qlora::models
