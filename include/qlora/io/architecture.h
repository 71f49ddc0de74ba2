#pragma once
// The model architectures this project reads, as one table: how each is called in config.json and
// in GGUF, and where each part of the network lies in its checkpoint. A new member of the Llama
// family is one more row (src/io/architecture.cpp).

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace qlora::io {

enum class Architecture : std::uint8_t { Llama, Mistral, Qwen2, Qwen3, Exaone };

// The parts of a Llama-family network. Those from InputNorm on exist once per layer.
enum class Role : std::uint8_t {
  Embedding,
  FinalNorm,
  LmHead,
  InputNorm,
  PostAttentionNorm,
  QProj,
  KProj,
  VProj,
  OProj,
  QNorm,
  KNorm,
  GateProj,
  UpProj,
  DownProj,
};
inline constexpr int kRoleCount = 14;
inline constexpr bool is_layer_role(Role role) { return role >= Role::InputNorm; }

// Which linears of the attention carry a bias.
enum class BiasRule : std::uint8_t {
  None,        // never
  Qkv,         // always on q, k and v, never on o
  FromConfig,  // config.json's attention_bias: q, k, v and o alike
};

// What config.json calls the keys that differ between families.
struct ConfigKeys {
  std::string_view layers;
  std::string_view norm_eps;
  std::string_view activation;
};

struct ArchitectureInfo {
  Architecture architecture;
  std::string_view hf_class;    // config.json "architectures"
  std::string_view model_type;  // config.json "model_type"
  std::string_view gguf_name;   // GGUF "general.architecture"; empty: GGUF stores it as llama
  ConfigKeys keys;
  BiasRule attention_bias;
  bool mlp_bias_key;              // config.json may say mlp_bias
  bool qk_norm;                   // RMSNorm over head_dim on q and k after the projection
  bool tied_by_default;           // tie_word_embeddings where config.json does not say
  bool kv_heads_optional;         // num_key_value_heads absent: as many as num_attention_heads
  std::int64_t head_dim_default;  // where config.json does not say; 0: hidden_size / heads
  bool gguf_permutes_qk;          // formats: GGUF stores q and k rows interleaved for "llama"
  std::array<std::string_view, kRoleCount> modules;  // by Role; "{}" is the layer; empty: absent
};

std::span<const ArchitectureInfo> known_architectures();
const ArchitectureInfo& info_of(Architecture architecture);

// By config.json's class or, where config.json has none, its model_type; null where unknown.
const ArchitectureInfo* find_by_hf_class(std::string_view hf_class);
const ArchitectureInfo* find_by_model_type(std::string_view model_type);
const ArchitectureInfo* find_by_gguf_name(std::string_view gguf_name);

// "LlamaForCausalLM, MistralForCausalLM, ...", for messages.
std::string known_hf_classes();
std::string known_gguf_names();

// The checkpoint's module path: (Exaone, GateProj, 3) -> "transformer.h.3.mlp.c_fc_0". Add
// ".weight" or ".bias" for the tensor. Empty where the architecture has no such part.
// `layer` is ignored for parts that exist once.
std::string module_path(Architecture architecture, Role role, std::int64_t layer = 0);

// The same part in a GGUF file: (GateProj, 3) -> "blk.3.ffn_gate".
std::string gguf_module_path(Role role, std::int64_t layer = 0);

}  // namespace qlora::io
