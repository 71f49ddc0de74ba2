// config.json -> ModelConfig. Keys in the style of transformers 4 (rope_theta, rope_scaling) and 5
// (rope_parameters).

#include "io/model_config_check.h"
#include "qlora/base/error.h"
#include "qlora/io/model_config.h"

#include <string>

namespace qlora::io {
namespace {

// Defaults of transformers' config classes.
constexpr double kDefaultRopeTheta = 10000.0;
constexpr std::int64_t kDefaultMistralWindow = 4096;
constexpr std::int64_t kDefaultQwenWindowLayers = 28;

class ConfigReader {
 public:
  ConfigReader(const Json& json, std::string_view where) : json_(json), where_(where) {}

  ModelConfig read();

 private:
  const ArchitectureInfo& find_architecture() const;
  void read_sizes(ModelConfig& config, const ArchitectureInfo& info) const;
  void read_biases(ModelConfig& config, const ArchitectureInfo& info) const;
  void read_rope(ModelConfig& config) const;
  void read_sliding_window(ModelConfig& config) const;
  void read_tokens(ModelConfig& config) const;
  void read_dtype(ModelConfig& config) const;
  RopeScaling read_rope_scaling(const Json& rope) const;

  std::int64_t integer(std::string_view key) const {
    return json_get<std::int64_t>(json_, key, where_);
  }
  std::int64_t integer_or(std::string_view key, std::int64_t fallback) const {
    return json_get_or<std::int64_t>(json_, key, fallback, where_);
  }
  // A value that is present and not null.
  const Json* find(std::string_view key) const { return json_find(json_, key); }

  const Json& json_;
  std::string_view where_;
};

const ArchitectureInfo& ConfigReader::find_architecture() const {
  const ArchitectureInfo* info = nullptr;
  std::string name;
  if (find("architectures") != nullptr) {
    const auto classes = json_get<std::vector<std::string>>(json_, "architectures", where_);
    if (!classes.empty()) name = classes.front();
    info = find_by_hf_class(name);
  } else {
    name = json_get<std::string>(json_, "model_type", where_);
    info = find_by_model_type(name);
  }
  if (info == nullptr) {
    fail("{}: the architecture '{}' is unknown; known are {}", where_, name, known_hf_classes());
  }
  return *info;
}

void ConfigReader::read_sizes(ModelConfig& config, const ArchitectureInfo& info) const {
  config.hidden_size = integer("hidden_size");
  config.intermediate_size = integer("intermediate_size");
  config.num_hidden_layers = integer(info.keys.layers);
  config.num_attention_heads = integer("num_attention_heads");
  config.num_key_value_heads = info.kv_heads_optional
                                   ? integer_or("num_key_value_heads", config.num_attention_heads)
                                   : integer("num_key_value_heads");
  config.vocab_size = integer("vocab_size");
  config.max_position_embeddings = integer("max_position_embeddings");
  config.rms_norm_eps = json_get<double>(json_, info.keys.norm_eps, where_);
  if (config.num_attention_heads < 1) {
    fail("{}: 'num_attention_heads' is {}; expected 1 or more", where_, config.num_attention_heads);
  }
  if (find("head_dim") != nullptr) {
    config.head_dim = integer("head_dim");
  } else if (info.head_dim_default != 0) {
    config.head_dim = info.head_dim_default;
  } else if (config.hidden_size % config.num_attention_heads == 0) {
    config.head_dim = config.hidden_size / config.num_attention_heads;
  } else {
    fail("{}: 'hidden_size' ({}) is not a multiple of 'num_attention_heads' ({})", where_,
         config.hidden_size, config.num_attention_heads);
  }
}

void ConfigReader::read_biases(ModelConfig& config, const ArchitectureInfo& info) const {
  if (info.attention_bias == BiasRule::Qkv) {
    config.qkv_bias = true;
  } else if (info.attention_bias == BiasRule::FromConfig) {
    config.qkv_bias = json_get_or<bool>(json_, "attention_bias", false, where_);
    config.o_bias = config.qkv_bias;
  }
  if (info.mlp_bias_key) config.mlp_bias = json_get_or<bool>(json_, "mlp_bias", false, where_);
  config.qk_norm = info.qk_norm;
}

RopeScaling ConfigReader::read_rope_scaling(const Json& rope) const {
  const std::string where = fmt::format("{}: RoPE scaling", where_);
  if (!rope.is_object()) fail("{}: expected an object", where);
  const auto old_type = json_get_or<std::string>(rope, "type", "default", where);
  const auto type = json_get_or<std::string>(rope, "rope_type", old_type, where);
  RopeScaling scaling;
  if (json_get_or<double>(rope, "partial_rotary_factor", 1.0, where) != 1.0) {
    fail("{}: 'partial_rotary_factor' other than 1 is not supported", where);
  }
  if (type == "default") return scaling;
  if (type == "linear") {
    scaling.kind = RopeScaling::Kind::Linear;
    scaling.factor = json_get<double>(rope, "factor", where);
    return scaling;
  }
  if (type != "llama3") {
    fail("{}: the type '{}' is not supported; known are default, linear, llama3", where, type);
  }
  scaling.kind = RopeScaling::Kind::Llama3;
  scaling.factor = json_get<double>(rope, "factor", where);
  scaling.low_freq_factor = json_get<double>(rope, "low_freq_factor", where);
  scaling.high_freq_factor = json_get<double>(rope, "high_freq_factor", where);
  scaling.original_max_position_embeddings =
      json_get<std::int64_t>(rope, "original_max_position_embeddings", where);
  return scaling;
}

void ConfigReader::read_rope(ModelConfig& config) const {
  config.rope_theta = json_get_or<double>(json_, "rope_theta", kDefaultRopeTheta, where_);
  if (const Json* parameters = find("rope_parameters")) {
    config.rope_scaling = read_rope_scaling(*parameters);
    config.rope_theta = json_get_or<double>(*parameters, "rope_theta", config.rope_theta, where_);
  } else if (const Json* scaling = find("rope_scaling")) {
    config.rope_scaling = read_rope_scaling(*scaling);
  }
}

void ConfigReader::read_sliding_window(ModelConfig& config) const {
  if (config.architecture == Architecture::Mistral && !json_.contains("sliding_window")) {
    config.sliding_window = kDefaultMistralWindow;
  }
  if (find("sliding_window") == nullptr) return;
  // Qwen states a window and switches it off; Mistral has no switch.
  if (!json_get_or<bool>(json_, "use_sliding_window", config.architecture == Architecture::Mistral,
                         where_)) {
    return;
  }
  config.sliding_window = integer("sliding_window");
  if (config.architecture == Architecture::Mistral) return;
  // Qwen applies it only to the layers from max_window_layers on.
  if (integer_or("max_window_layers", kDefaultQwenWindowLayers) >= config.num_hidden_layers) {
    config.sliding_window.reset();
  } else if (*config.sliding_window < config.max_position_embeddings) {
    fail("{}: a sliding window in some of the layers ('use_sliding_window') is not supported",
         where_);
  }
}

void ConfigReader::read_tokens(ModelConfig& config) const {
  // bos and pad may be absent or null; eos is one id or a list.
  if (find("bos_token_id") != nullptr) config.bos_token_id = integer("bos_token_id");
  if (find("pad_token_id") != nullptr) config.pad_token_id = integer("pad_token_id");
  if (const Json* eos = find("eos_token_id")) {
    config.eos_token_ids = eos->is_array()
                               ? json_get<std::vector<std::int64_t>>(json_, "eos_token_id", where_)
                               : std::vector<std::int64_t>{integer("eos_token_id")};
  }
  config.stop_token_ids = config.eos_token_ids;
}

void ConfigReader::read_dtype(ModelConfig& config) const {
  for (const char* key : {"dtype", "torch_dtype"}) {
    if (find(key) == nullptr) continue;
    const auto name = json_get<std::string>(json_, key, where_);
    if (name != "float32" && name != "float16" && name != "bfloat16") {
      fail("{}: '{}' is '{}'; expected float32, float16 or bfloat16", where_, key, name);
    }
    config.dtype = dtype_from_name(name);
    return;
  }
}

ModelConfig ConfigReader::read() {
  if (!json_.is_object()) fail("{}: expected a JSON object", where_);
  const ArchitectureInfo& info = find_architecture();
  ModelConfig config;
  config.architecture = info.architecture;
  read_sizes(config, info);
  const auto activation = json_get_or<std::string>(json_, info.keys.activation, "silu", where_);
  if (activation != "silu" && activation != "swish") {
    fail("{}: '{}' is '{}'; only silu is supported", where_, info.keys.activation, activation);
  }
  config.tie_word_embeddings =
      json_get_or<bool>(json_, "tie_word_embeddings", info.tied_by_default, where_);
  read_biases(config, info);
  read_rope(config);
  read_sliding_window(config);
  read_tokens(config);
  read_dtype(config);
  config.source = json_;
  check_model_config(config, where_);
  return config;
}

}  // namespace

ModelConfig model_config_from_json(const Json& config, std::string_view where) {
  return ConfigReader(config, where).read();
}

}  // namespace qlora::io
