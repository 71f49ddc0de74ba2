#pragma once
// PEFT's LoRA adapter on disk: adapter_config.json, the names inside adapter_model.safetensors, and
// the rules that say which modules an adapter targets.

#include "qlora/base/json.h"

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace qlora::io {

inline constexpr std::string_view kAdapterConfigName = "adapter_config.json";
inline constexpr std::string_view kAdapterWeightsName = "adapter_model.safetensors";
inline constexpr std::string_view kAllLinear = "all-linear";

// A list of module names, or one text: a regular expression that must match the whole path, or
// "all-linear".
using ModulePattern = std::variant<std::vector<std::string>, std::string>;

// Regular expression over the end of a module path -> value, in file order; the first match counts.
template <class T>
using PathPatterns = std::vector<std::pair<std::string, T>>;

struct AdapterConfig {
  std::int64_t r = 8;
  double lora_alpha = 8.0;
  double lora_dropout = 0.0;
  bool use_rslora = false;
  ModulePattern target_modules;
  std::optional<ModulePattern> exclude_modules;
  std::vector<std::int64_t> layers_to_transform;  // empty: all
  std::vector<std::string> layers_pattern;
  PathPatterns<std::int64_t> rank_pattern;
  PathPatterns<double> alpha_pattern;
  std::vector<std::string> modules_to_save;
  // With a tied model's embedding in modules_to_save: the output projection follows it.
  bool ensure_weight_tying = false;
  std::string init_lora_weights = "true";  // "true", "false", or a scheme's name ("gaussian")
  std::string bias = "none";
  std::string task_type = "CAUSAL_LM";  // empty: null
  std::string base_model_name_or_path;  // empty: null
  std::string revision;                 // empty: null
  bool inference_mode = true;

  // What B(A(x)) of one module is multiplied by: alpha / r, or alpha / sqrt(r) with use_rslora,
  // with the pattern that matches `module_path` in place of r or alpha.
  double scaling_of(std::string_view module_path) const;
  std::int64_t rank_of(std::string_view module_path) const;
};

// Throws Error: wrong types, r < 1, a feature that would change the result and is not supported
// (DoRA, an initialisation that changes the base ...), each by its key.
AdapterConfig adapter_config_from_json(const Json& json, std::string_view where);
// From a directory; says what is missing where it is no adapter.
AdapterConfig read_adapter_config(const std::filesystem::path& directory);

// Every key that PEFT writes, sorted, indented by 2, no newline at the end (as PEFT).
std::string adapter_config_text(const AdapterConfig& config);

enum class AdapterPart : std::uint8_t { LoraA, LoraB, EmbeddingA, EmbeddingB, Saved };

struct AdapterTensorName {
  std::string module;  // "model.layers.0.self_attn.q_proj"
  AdapterPart part = AdapterPart::LoraA;
  std::string parameter;  // "weight" or "bias" of a Saved module; empty otherwise
};

// "base_model.model." + module + ".lora_A.weight" and its kin.
std::string adapter_tensor_name(const AdapterTensorName& name);
// Throws Error (starting with `where`) for a name that is none of these.
AdapterTensorName parse_adapter_tensor_name(std::string_view name, std::string_view where);

// PEFT's rule for one module path: a list item equals the path or its end after a dot; a text
// matches the whole path. "all-linear" is the caller's to resolve (QLORA_ASSERT). Throws Error for
// a text that is no regular expression.
bool matches(const ModulePattern& pattern, std::string_view module_path);

// matches(target_modules), minus exclude_modules, modules_to_save and layers outside
// layers_to_transform. `all_linear_member` answers for "all-linear".
bool is_target(const AdapterConfig& config, std::string_view module_path, bool all_linear_member);

}  // namespace qlora::io
