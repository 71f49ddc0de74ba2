#include "qlora/io/architecture.h"

#include "qlora/base/error.h"
#include "qlora/base/text_util.h"

#include <algorithm>
#include <vector>

namespace qlora::io {
namespace {

constexpr ConfigKeys kLlamaKeys = {"num_hidden_layers", "rms_norm_eps", "hidden_act"};
constexpr ConfigKeys kExaoneKeys = {"num_layers", "layer_norm_epsilon", "activation_function"};

// In the order of Role. An architecture whose row says qk_norm = false never asks for the norms.
constexpr std::array<std::string_view, kRoleCount> kLlamaModules = {
    "model.embed_tokens",
    "model.norm",
    "lm_head",
    "model.layers.{}.input_layernorm",
    "model.layers.{}.post_attention_layernorm",
    "model.layers.{}.self_attn.q_proj",
    "model.layers.{}.self_attn.k_proj",
    "model.layers.{}.self_attn.v_proj",
    "model.layers.{}.self_attn.o_proj",
    "model.layers.{}.self_attn.q_norm",
    "model.layers.{}.self_attn.k_norm",
    "model.layers.{}.mlp.gate_proj",
    "model.layers.{}.mlp.up_proj",
    "model.layers.{}.mlp.down_proj",
};

constexpr std::array<std::string_view, kRoleCount> kExaoneModules = {
    "transformer.wte",
    "transformer.ln_f",
    "lm_head",
    "transformer.h.{}.ln_1",
    "transformer.h.{}.ln_2",
    "transformer.h.{}.attn.attention.q_proj",
    "transformer.h.{}.attn.attention.k_proj",
    "transformer.h.{}.attn.attention.v_proj",
    "transformer.h.{}.attn.attention.out_proj",
    "",
    "",
    "transformer.h.{}.mlp.c_fc_0",
    "transformer.h.{}.mlp.c_fc_1",
    "transformer.h.{}.mlp.c_proj",
};

constexpr std::array<std::string_view, kRoleCount> kGgufModules = {
    "token_embd",         "output_norm",        "output",
    "blk.{}.attn_norm",   "blk.{}.ffn_norm",    "blk.{}.attn_q",
    "blk.{}.attn_k",      "blk.{}.attn_v",      "blk.{}.attn_output",
    "blk.{}.attn_q_norm", "blk.{}.attn_k_norm", "blk.{}.ffn_gate",
    "blk.{}.ffn_up",      "blk.{}.ffn_down",
};

// Defaults are those of transformers' config classes (LlamaConfig, MistralConfig, Qwen2Config,
// Qwen3Config) and of EXAONE's own configuration_exaone.py.
constexpr ArchitectureInfo kArchitectures[] = {
    {.architecture = Architecture::Llama,
     .hf_class = "LlamaForCausalLM",
     .model_type = "llama",
     .gguf_name = "llama",
     .keys = kLlamaKeys,
     .attention_bias = BiasRule::FromConfig,
     .mlp_bias_key = true,
     .qk_norm = false,
     .tied_by_default = false,
     .kv_heads_optional = true,
     .head_dim_default = 0,
     .gguf_permutes_qk = true,
     .modules = kLlamaModules},
    {.architecture = Architecture::Mistral,
     .hf_class = "MistralForCausalLM",
     .model_type = "mistral",
     .gguf_name = "",
     .keys = kLlamaKeys,
     .attention_bias = BiasRule::None,
     .mlp_bias_key = false,
     .qk_norm = false,
     .tied_by_default = false,
     .kv_heads_optional = false,
     .head_dim_default = 0,
     .gguf_permutes_qk = true,
     .modules = kLlamaModules},
    {.architecture = Architecture::Qwen2,
     .hf_class = "Qwen2ForCausalLM",
     .model_type = "qwen2",
     .gguf_name = "qwen2",
     .keys = kLlamaKeys,
     .attention_bias = BiasRule::Qkv,
     .mlp_bias_key = false,
     .qk_norm = false,
     .tied_by_default = false,
     .kv_heads_optional = false,
     .head_dim_default = 0,
     .gguf_permutes_qk = false,
     .modules = kLlamaModules},
    {.architecture = Architecture::Qwen3,
     .hf_class = "Qwen3ForCausalLM",
     .model_type = "qwen3",
     .gguf_name = "qwen3",
     .keys = kLlamaKeys,
     .attention_bias = BiasRule::FromConfig,
     .mlp_bias_key = false,
     .qk_norm = true,
     .tied_by_default = false,
     .kv_heads_optional = false,
     .head_dim_default = 128,
     .gguf_permutes_qk = false,
     .modules = kLlamaModules},
    {.architecture = Architecture::Exaone,
     .hf_class = "ExaoneForCausalLM",
     .model_type = "exaone",
     .gguf_name = "exaone",
     .keys = kExaoneKeys,
     .attention_bias = BiasRule::None,
     .mlp_bias_key = false,
     .qk_norm = false,
     .tied_by_default = true,
     .kv_heads_optional = true,
     .head_dim_default = 0,
     .gguf_permutes_qk = false,
     .modules = kExaoneModules},
};

const ArchitectureInfo* find(std::string_view ArchitectureInfo::*column, std::string_view name) {
  if (name.empty()) return nullptr;
  const auto* it = std::ranges::find(kArchitectures, name, column);
  return it == std::end(kArchitectures) ? nullptr : it;
}

std::string known(std::string_view ArchitectureInfo::*column) {
  std::vector<std::string> names;
  for (const ArchitectureInfo& info : kArchitectures) {
    if (!(info.*column).empty()) names.emplace_back(info.*column);
  }
  return join(names);
}

std::string with_layer(std::string_view pattern, std::int64_t layer) {
  return fmt::format(fmt::runtime(pattern), layer);
}

}  // namespace

std::span<const ArchitectureInfo> known_architectures() { return kArchitectures; }

const ArchitectureInfo& info_of(Architecture architecture) {
  const auto* it = std::ranges::find(kArchitectures, architecture, &ArchitectureInfo::architecture);
  QLORA_ASSERT(it != std::end(kArchitectures));
  return *it;
}

const ArchitectureInfo* find_by_hf_class(std::string_view hf_class) {
  return find(&ArchitectureInfo::hf_class, hf_class);
}

const ArchitectureInfo* find_by_model_type(std::string_view model_type) {
  return find(&ArchitectureInfo::model_type, model_type);
}

const ArchitectureInfo* find_by_gguf_name(std::string_view gguf_name) {
  return find(&ArchitectureInfo::gguf_name, gguf_name);
}

std::string known_hf_classes() { return known(&ArchitectureInfo::hf_class); }

std::string known_gguf_names() { return known(&ArchitectureInfo::gguf_name); }

std::string module_path(Architecture architecture, Role role, std::int64_t layer) {
  return with_layer(info_of(architecture).modules[static_cast<std::size_t>(role)], layer);
}

std::string gguf_module_path(Role role, std::int64_t layer) {
  return with_layer(kGgufModules[static_cast<std::size_t>(role)], layer);
}

}  // namespace qlora::io
