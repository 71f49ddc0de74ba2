// ModelConfig -> config.json, in the keys that transformers 4 and 5 both read.

#include "qlora/base/error.h"
#include "qlora/io/model_config.h"

#include <string>

namespace qlora::io {
namespace {

Json rope_scaling_json(const RopeScaling& scaling) {
  using Kind = RopeScaling::Kind;
  if (scaling.kind == Kind::None) return nullptr;
  if (scaling.kind == Kind::Linear) {
    return {{"factor", scaling.factor}, {"rope_type", "linear"}};
  }
  if (scaling.kind == Kind::Divisors) {
    fail(
        "config.json cannot state this model's RoPE frequencies: they come from a GGUF file and "
        "fit none of the known scalings; start from the model's HF directory instead");
  }
  return {{"factor", scaling.factor},
          {"high_freq_factor", scaling.high_freq_factor},
          {"low_freq_factor", scaling.low_freq_factor},
          {"original_max_position_embeddings", scaling.original_max_position_embeddings},
          {"rope_type", "llama3"}};
}

Json eos_json(const std::vector<std::int64_t>& ids) {
  if (ids.empty()) return nullptr;
  return ids.size() == 1 ? Json(ids.front()) : Json(ids);
}

template <class T>
Json or_null(const std::optional<T>& value) {
  return value ? Json(*value) : Json(nullptr);
}

// Every key that ModelConfig knows.
Json all_keys(const ModelConfig& config) {
  const ArchitectureInfo& info = info_of(config.architecture);
  Json json;
  json["architectures"] = Json::array({std::string(info.hf_class)});
  json["model_type"] = std::string(info.model_type);
  json["hidden_size"] = config.hidden_size;
  json["intermediate_size"] = config.intermediate_size;
  json[std::string(info.keys.layers)] = config.num_hidden_layers;
  json["num_attention_heads"] = config.num_attention_heads;
  json["num_key_value_heads"] = config.num_key_value_heads;
  json["head_dim"] = config.head_dim;
  json["vocab_size"] = config.vocab_size;
  json["max_position_embeddings"] = config.max_position_embeddings;
  json[std::string(info.keys.norm_eps)] = config.rms_norm_eps;
  json["rope_theta"] = config.rope_theta;
  json["rope_scaling"] = rope_scaling_json(config.rope_scaling);
  json[std::string(info.keys.activation)] = "silu";
  json["tie_word_embeddings"] = config.tie_word_embeddings;
  if (info.attention_bias == BiasRule::FromConfig) json["attention_bias"] = config.qkv_bias;
  if (info.mlp_bias_key) json["mlp_bias"] = config.mlp_bias;
  if (config.architecture == Architecture::Mistral) {
    json["sliding_window"] = or_null(config.sliding_window);
  }
  json["bos_token_id"] = or_null(config.bos_token_id);
  json["eos_token_id"] = eos_json(config.eos_token_ids);
  json["pad_token_id"] = or_null(config.pad_token_id);
  json["torch_dtype"] = config.dtype ? Json(std::string(name_of(*config.dtype))) : Json(nullptr);
  return json;
}

}  // namespace

Json to_hf_json(const ModelConfig& config) {
  if (config.sliding_window.value_or(config.max_position_embeddings) <
          config.max_position_embeddings &&
      config.architecture != Architecture::Mistral) {
    fail("config.json of a {} model cannot state this model's sliding window of {}",
         info_of(config.architecture).model_type, *config.sliding_window);
  }
  Json now = all_keys(config);
  if (config.source.is_null()) {
    if (config.dtype == std::nullopt) now.erase("torch_dtype");
    return now;
  }
  const Json before = all_keys(model_config_from_json(config.source, "config.json"));
  Json json = config.source;
  for (const auto& [key, value] : now.items()) {
    if (before.contains(key) && before.at(key) == value) continue;
    json[key] = value;
    // The same fact under its other spelling would win or contradict.
    if (key == "torch_dtype") json.erase("dtype");
    if (key == "rope_theta" || key == "rope_scaling") {
      json.erase("rope_parameters");
      json["rope_theta"] = now["rope_theta"];
      json["rope_scaling"] = now["rope_scaling"];
    }
  }
  return json;
}

}  // namespace qlora::io
