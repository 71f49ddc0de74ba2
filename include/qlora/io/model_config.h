#pragma once
// The structure of a Llama-family model, as config.json or the keys of a GGUF file state it.

#include "qlora/base/dtype.h"
#include "qlora/base/json.h"
#include "qlora/io/architecture.h"

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string_view>
#include <vector>

namespace qlora::io {

class GgufFile;

// How rotary frequencies differ from theta^(-2i/head_dim).
struct RopeScaling {
  enum class Kind : std::uint8_t {
    None,
    Linear,   // every frequency divided by factor
    Llama3,   // Llama 3.1's smooth split between kept and divided frequencies
    Divisors  // one divisor per frequency, from a GGUF whose parameters cannot be recovered
  };
  Kind kind = Kind::None;
  double factor = 1.0;
  double low_freq_factor = 1.0;
  double high_freq_factor = 4.0;
  std::int64_t original_max_position_embeddings = 0;
  std::vector<double> divisors;  // [head_dim / 2], Kind::Divisors only

  bool operator==(const RopeScaling&) const = default;
};

struct ModelConfig {
  Architecture architecture = Architecture::Llama;
  std::int64_t hidden_size = 0;
  std::int64_t intermediate_size = 0;
  std::int64_t num_hidden_layers = 0;
  std::int64_t num_attention_heads = 0;
  std::int64_t num_key_value_heads = 0;
  std::int64_t head_dim = 0;
  std::int64_t vocab_size = 0;
  std::int64_t max_position_embeddings = 0;
  double rms_norm_eps = 0.0;
  double rope_theta = 0.0;
  RopeScaling rope_scaling;
  bool tie_word_embeddings = false;
  bool qkv_bias = false;  // bias on q_proj, k_proj, v_proj
  bool o_bias = false;    // bias on o_proj
  bool mlp_bias = false;  // bias on gate_proj, up_proj, down_proj
  bool qk_norm = false;   // RMSNorm over head_dim on q and k (q_norm, k_norm)
  // Attention looks back at most this many positions; unset: all of them.
  std::optional<std::int64_t> sliding_window;
  std::optional<std::int64_t> bos_token_id;
  std::vector<std::int64_t> eos_token_ids;  // config.json allows one or a list
  std::optional<std::int64_t> pad_token_id;
  // eos_token_ids and those that generation_config.json adds: what ends an answer.
  std::vector<std::int64_t> stop_token_ids;
  std::optional<DType> dtype;  // the checkpoint's floating type, where stated
  Json source;  // config.json as it was read (unknown keys are carried through); null from GGUF

  // The longest sequence that attention over the whole context serves as the model's own does.
  std::int64_t context_limit() const {
    return std::min(max_position_embeddings, sliding_window.value_or(max_position_embeddings));
  }
};

// An HF directory (config.json, generation_config.json) or a GGUF file. Throws Error: path absent
// (says how to fetch a model), key missing or out of range, unknown architecture (lists the known),
// an activation other than silu, a RoPE type other than default, linear, llama3.
ModelConfig read_model_config(const std::filesystem::path& path);

// The same from parsed config.json text; `where` names the source in errors. An absent optional key
// takes the value that transformers' own config class gives it.
ModelConfig model_config_from_json(const Json& config, std::string_view where);

// From `general.architecture` and its keys; biases, tying and vocabulary size from the tensors.
ModelConfig model_config_from_gguf(const GgufFile& file);

// config.json that transformers loads (EXAONE's keys for EXAONE). Starts from `source` where there
// is one and changes only what differs from it. Throws Error for RopeScaling::Kind::Divisors.
Json to_hf_json(const ModelConfig& config);

// What each frequency theta^(-2i/head_dim) is divided by, [head_dim / 2]; all 1 without scaling.
// Llama 3: wavelength w = 2*pi/f, L = original_max_position_embeddings; w < L/high: 1; w > L/low:
// factor; between: 1 / ((1 - s)/factor + s), s = (L/w - low) / (high - low).
std::vector<double> rope_frequency_divisors(const ModelConfig& config);

}  // namespace qlora::io
