// Names inside adapter_model.safetensors, and which modules an adapter targets.

#include "qlora/base/error.h"
#include "qlora/io/peft.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <regex>

namespace qlora::io {
namespace {

constexpr std::string_view kPrefix = "base_model.model.";

constexpr std::pair<AdapterPart, std::string_view> kSuffixes[] = {
    {AdapterPart::LoraA, ".lora_A.weight"},
    {AdapterPart::LoraB, ".lora_B.weight"},
    {AdapterPart::EmbeddingA, ".lora_embedding_A"},
    {AdapterPart::EmbeddingB, ".lora_embedding_B"},
};

bool full_match(const std::string& pattern, std::string_view text) {
  try {
    return std::regex_match(text.begin(), text.end(), std::regex(pattern));
  } catch (const std::regex_error& error) {
    fail("'{}' is not a regular expression: {}", pattern, error.what());
  }
}

// Equal, or the end after a dot.
bool names_module(std::string_view item, std::string_view path) {
  if (!path.ends_with(item)) return false;
  return path.size() == item.size() || path[path.size() - item.size() - 1] == '.';
}

bool names_any(const std::vector<std::string>& items, std::string_view path) {
  return std::ranges::any_of(items, [&](const auto& item) { return names_module(item, path); });
}

// The path is one of the modules, or lies inside one.
bool lies_in_any(const std::vector<std::string>& modules, std::string_view path) {
  for (std::size_t end = path.size(); end != std::string_view::npos && end > 0;
       end = path.rfind('.', end - 1)) {
    if (names_any(modules, path.substr(0, end))) return true;
  }
  return false;
}

std::optional<std::int64_t> parse_number(std::string_view text) {
  std::int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

// The layer of a path: the first number between dots, and with `patterns` the first one right after
// one of them ("layers" in "model.layers.3.mlp").
std::optional<std::int64_t> layer_of(std::string_view path,
                                     const std::vector<std::string>& patterns) {
  std::string_view previous;
  while (!path.empty()) {
    const std::size_t dot = path.find('.');
    const std::string_view part = path.substr(0, dot);
    const auto number = parse_number(part);
    const bool wanted =
        !previous.empty() && dot != std::string_view::npos &&
        (patterns.empty() || std::ranges::find(patterns, previous) != patterns.end());
    if (number && wanted) return number;
    previous = part;
    path = dot == std::string_view::npos ? std::string_view() : path.substr(dot + 1);
  }
  return std::nullopt;
}

template <class T>
T value_for(const PathPatterns<T>& patterns, std::string_view path, T otherwise) {
  for (const auto& [pattern, value] : patterns) {
    if (full_match("(.*\\.)?(" + pattern + ")", path)) return value;
  }
  return otherwise;
}

}  // namespace

std::int64_t AdapterConfig::rank_of(std::string_view module_path) const {
  return value_for(rank_pattern, module_path, r);
}

double AdapterConfig::scaling_of(std::string_view module_path) const {
  const auto rank = static_cast<double>(rank_of(module_path));
  const double alpha = value_for(alpha_pattern, module_path, lora_alpha);
  return alpha / (use_rslora ? std::sqrt(rank) : rank);
}

std::string adapter_tensor_name(const AdapterTensorName& name) {
  for (const auto& [part, suffix] : kSuffixes) {
    if (part == name.part) return fmt::format("{}{}{}", kPrefix, name.module, suffix);
  }
  return fmt::format("{}{}.{}", kPrefix, name.module, name.parameter);
}

AdapterTensorName parse_adapter_tensor_name(std::string_view name, std::string_view where) {
  if (!name.starts_with(kPrefix)) {
    fail("{}: tensor '{}' is none of an adapter: its name does not start with '{}'", where, name,
         kPrefix);
  }
  const std::string_view path = name.substr(kPrefix.size());
  for (const auto& [part, suffix] : kSuffixes) {
    if (path.ends_with(suffix) && path.size() > suffix.size()) {
      return {std::string(path.substr(0, path.size() - suffix.size())), part, ""};
    }
  }
  const std::size_t dot = path.rfind('.');
  const std::string_view last = dot == std::string_view::npos ? path : path.substr(dot + 1);
  if (path.find("lora_") != std::string_view::npos || (last != "weight" && last != "bias") ||
      dot == 0 || dot == std::string_view::npos) {
    fail(
        "{}: tensor '{}' is of a kind that is not supported; known are lora_A, lora_B, "
        "lora_embedding_A, lora_embedding_B and the weight or bias of a saved module",
        where, name);
  }
  return {std::string(path.substr(0, dot)), AdapterPart::Saved, std::string(last)};
}

bool matches(const ModulePattern& pattern, std::string_view module_path) {
  if (const auto* list = std::get_if<std::vector<std::string>>(&pattern)) {
    return names_any(*list, module_path);
  }
  const auto& text = std::get<std::string>(pattern);
  QLORA_ASSERT(text != kAllLinear);
  return full_match(text, module_path);
}

bool is_target(const AdapterConfig& config, std::string_view module_path, bool all_linear_member) {
  if (config.exclude_modules && matches(*config.exclude_modules, module_path)) return false;
  if (lies_in_any(config.modules_to_save, module_path)) return false;
  const auto* text = std::get_if<std::string>(&config.target_modules);
  const bool all_linear = text != nullptr && *text == kAllLinear;
  if (!(all_linear ? all_linear_member : matches(config.target_modules, module_path))) return false;
  if (config.layers_to_transform.empty()) return true;
  const auto layer = layer_of(module_path, config.layers_pattern);
  return layer &&
         std::ranges::find(config.layers_to_transform, *layer) != config.layers_to_transform.end();
}

}  // namespace qlora::io
