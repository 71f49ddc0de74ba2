// adapter_config.json.

#include "qlora/base/error.h"
#include "qlora/base/file.h"
#include "qlora/io/peft.h"

#include <algorithm>
#include <cmath>

namespace qlora::io {
namespace {

constexpr std::int64_t kMaxRank = 65536;
constexpr std::string_view kPeftVersion = "0.20.0";

// Features that change what an adapter computes and are not built here: each must be absent or at
// the value that switches it off (null, false, or an empty object).
constexpr const char* kUnsupported[] = {
    "alora_invocation_tokens",
    "arrow_config",
    "fan_in_fan_out",
    "kasa_config",
    "layer_replication",
    "lora_bias",
    "megatron_config",
    "monteclora_config",
    "target_parameters",
    "trainable_token_indices",
    "use_bdlora",
    "use_dora",
    "use_qalora",
    "velora_config",
};

// Initialisations that leave the base weights alone, so that the saved A and B tell everything.
constexpr const char* kKnownInits[] = {"true", "false", "gaussian", "orthogonal", "eva"};

bool is_off(const Json& value) {
  return value.is_null() || value == false || (value.is_structured() && value.empty());
}

std::optional<ModulePattern> read_pattern(const Json& json, const char* key,
                                          std::string_view where) {
  const Json* value = json_find(json, key);
  if (value == nullptr) return std::nullopt;
  if (value->is_string()) return json_get<std::string>(json, key, where);
  return json_get<std::vector<std::string>>(json, key, where);
}

// One number or a list of them.
std::vector<std::int64_t> read_layers(const Json& json, const char* key, std::string_view where) {
  const Json* value = json_find(json, key);
  if (value == nullptr) return {};
  if (value->is_array()) return json_get<std::vector<std::int64_t>>(json, key, where);
  return {json_get<std::int64_t>(json, key, where)};
}

std::vector<std::string> read_texts(const Json& json, const char* key, std::string_view where) {
  const Json* value = json_find(json, key);
  if (value == nullptr) return {};
  if (value->is_string()) return {json_get<std::string>(json, key, where)};
  return json_get<std::vector<std::string>>(json, key, where);
}

template <class T>
PathPatterns<T> read_patterns(const Json& json, const char* key, std::string_view where) {
  PathPatterns<T> patterns;
  const Json* value = json_find(json, key);
  if (value == nullptr) return patterns;
  if (!value->is_object()) fail("{}: '{}' must be an object", where, key);
  const std::string here = fmt::format("{}: {}", where, key);
  for (const auto& [pattern, number] : value->items()) {
    patterns.emplace_back(pattern, json_get<T>(*value, pattern, here));
  }
  return patterns;
}

std::string read_init(const Json& json, std::string_view where) {
  const Json* value = json_find(json, "init_lora_weights");
  if (value == nullptr) return "true";
  if (value->is_boolean()) return value->get<bool>() ? "true" : "false";
  const auto init = json_get<std::string>(json, "init_lora_weights", where);
  if (std::ranges::find(kKnownInits, init) == std::end(kKnownInits)) {
    fail(
        "{}: 'init_lora_weights' is '{}', which changes the base weights; only true, false, "
        "gaussian, orthogonal and eva can be read",
        where, init);
  }
  return init;
}

void check_ranges(const AdapterConfig& config, std::string_view where) {
  const auto check_rank = [&](std::int64_t rank) {
    if (rank < 1 || rank > kMaxRank) {
      fail("{}: the rank {} is out of range; expected 1 to {}", where, rank, kMaxRank);
    }
  };
  const auto check_alpha = [&](double alpha) {
    if (!std::isfinite(alpha)) fail("{}: 'lora_alpha' is not a finite number", where);
  };
  check_rank(config.r);
  check_alpha(config.lora_alpha);
  for (const auto& [pattern, rank] : config.rank_pattern) check_rank(rank);
  for (const auto& [pattern, alpha] : config.alpha_pattern) check_alpha(alpha);
  if (!(config.lora_dropout >= 0.0 && config.lora_dropout < 1.0)) {
    fail("{}: 'lora_dropout' is {}; expected 0 up to but not including 1", where,
         config.lora_dropout);
  }
  if (config.bias != "none") {
    fail("{}: 'bias' is '{}'; only none is supported", where, config.bias);
  }
}

Json text_or_null(const std::string& text) { return text.empty() ? Json(nullptr) : Json(text); }

template <class List>
Json list_or_null(const List& list) {
  return list.empty() ? Json(nullptr) : Json(list);
}

Json pattern_json(const ModulePattern& pattern) {
  return std::visit([](const auto& value) { return Json(value); }, pattern);
}

// Python keeps lora_alpha an int where it is one.
Json number_json(double value) {
  constexpr double kExact = 9007199254740992.0;  // 2^53
  const bool whole = std::floor(value) == value && std::abs(value) < kExact;
  return whole ? Json(static_cast<std::int64_t>(value)) : Json(value);
}

template <class T, class ToJson>
Json patterns_json(const PathPatterns<T>& patterns, ToJson to_json) {
  Json json = Json::object();
  for (const auto& [pattern, value] : patterns) json[pattern] = to_json(value);
  return json;
}

// Keys whose value this project never sets, at PEFT's default.
Json fixed_keys() {
  Json json = {{"arrow_config", nullptr},
               {"alora_invocation_tokens", nullptr},
               {"auto_mapping", nullptr},
               {"corda_config", nullptr},
               {"eva_config", nullptr},
               {"fan_in_fan_out", false},
               {"kasa_config", nullptr},
               {"layer_replication", nullptr},
               {"loftq_config", Json::object()},
               {"lora_bias", false},
               {"lora_ga_config", nullptr},
               {"megatron_config", nullptr},
               {"megatron_core", "megatron.core"},
               {"monteclora_config", nullptr},
               {"peft_type", "LORA"},
               {"peft_version", std::string(kPeftVersion)},
               {"qalora_group_size", 16},
               {"target_parameters", nullptr},
               {"trainable_token_indices", nullptr},
               {"use_bdlora", nullptr},
               {"use_dora", false},
               {"use_qalora", false},
               {"velora_config", nullptr}};
  return json;
}

}  // namespace

AdapterConfig adapter_config_from_json(const Json& json, std::string_view where) {
  const auto type = json_get<std::string>(json, "peft_type", where);
  if (type != "LORA") fail("{}: 'peft_type' is '{}'; only LORA is supported", where, type);
  for (const char* key : kUnsupported) {
    const Json* value = json_find(json, key);
    if (value != nullptr && !is_off(*value)) fail("{}: '{}' is not supported", where, key);
  }
  AdapterConfig config;
  config.r = json_get_or<std::int64_t>(json, "r", config.r, where);
  config.lora_alpha = json_get_or<double>(json, "lora_alpha", config.lora_alpha, where);
  config.lora_dropout = json_get_or<double>(json, "lora_dropout", config.lora_dropout, where);
  config.use_rslora = json_get_or<bool>(json, "use_rslora", false, where);
  const auto targets = read_pattern(json, "target_modules", where);
  if (!targets) fail("{}: 'target_modules' is missing; expected a list or a text", where);
  config.target_modules = *targets;
  config.exclude_modules = read_pattern(json, "exclude_modules", where);
  config.layers_to_transform = read_layers(json, "layers_to_transform", where);
  config.layers_pattern = read_texts(json, "layers_pattern", where);
  config.rank_pattern = read_patterns<std::int64_t>(json, "rank_pattern", where);
  config.alpha_pattern = read_patterns<double>(json, "alpha_pattern", where);
  config.modules_to_save = read_texts(json, "modules_to_save", where);
  config.ensure_weight_tying = json_get_or<bool>(json, "ensure_weight_tying", false, where);
  config.init_lora_weights = read_init(json, where);
  config.bias = json_get_or<std::string>(json, "bias", "none", where);
  config.task_type = json_get_or<std::string>(json, "task_type", "", where);
  config.base_model_name_or_path =
      json_get_or<std::string>(json, "base_model_name_or_path", "", where);
  config.revision = json_get_or<std::string>(json, "revision", "", where);
  config.inference_mode = json_get_or<bool>(json, "inference_mode", true, where);
  check_ranges(config, where);
  return config;
}

AdapterConfig read_adapter_config(const std::filesystem::path& directory) {
  const std::filesystem::path file = directory / kAdapterConfigName;
  for (const std::string_view name : {kAdapterConfigName, kAdapterWeightsName}) {
    if (!std::filesystem::exists(directory / name)) {
      fail(
          "{}: no adapter: {} is missing; expected the directory of a checkpoint or of a saved "
          "adapter",
          directory.string(), name);
    }
  }
  return adapter_config_from_json(read_json(file), file.string());
}

std::string adapter_config_text(const AdapterConfig& config) {
  Json json = fixed_keys();
  json["alpha_pattern"] = patterns_json(config.alpha_pattern, number_json);
  json["base_model_name_or_path"] = text_or_null(config.base_model_name_or_path);
  json["bias"] = config.bias;
  json["ensure_weight_tying"] = config.ensure_weight_tying;
  json["exclude_modules"] =
      config.exclude_modules ? pattern_json(*config.exclude_modules) : Json(nullptr);
  json["inference_mode"] = config.inference_mode;
  const std::string& init = config.init_lora_weights;
  json["init_lora_weights"] = init == "true" || init == "false" ? Json(init == "true") : Json(init);
  json["layers_pattern"] = list_or_null(config.layers_pattern);
  json["layers_to_transform"] = list_or_null(config.layers_to_transform);
  json["lora_alpha"] = number_json(config.lora_alpha);
  json["lora_dropout"] = config.lora_dropout;
  json["modules_to_save"] = list_or_null(config.modules_to_save);
  json["r"] = config.r;
  json["rank_pattern"] = patterns_json(config.rank_pattern, [](auto rank) { return Json(rank); });
  json["revision"] = text_or_null(config.revision);
  json["target_modules"] = pattern_json(config.target_modules);
  json["task_type"] = text_or_null(config.task_type);
  json["use_rslora"] = config.use_rslora;
  return nlohmann::json(json).dump(2);
}

}  // namespace qlora::io
