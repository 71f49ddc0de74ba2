#pragma once
// Configuration files: YAML and `section.key=value` overrides into settings structs and back.
// What a struct looks like: qlora/base/constraints.h. Every error is one line that names the key,
// the file and line (or the command line), what was expected and what was found:
//   lora.lora_alhpa (qlora.yaml:12): unknown key; did you mean lora_alpha?

#include "qlora/config/field.h"

#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>

namespace qlora::config {

// Where each key was stated: "qlora.yaml:12", "command line".
using Locations = std::map<std::string, std::string, std::less<>>;

// Sets the described struct. `source` names the text in errors. Throws Error.
Locations apply(const Schema& schema, std::string_view yaml, std::string_view source,
                std::span<const std::string> overrides);

// Throws Error for the first problem, if any.
void report(std::span<const Problem> problems, const Locations& locations, std::string_view source);

std::string dump_schema(const Schema& schema);
std::string help_schema(const Schema& schema);

// The text of a configuration file; throws Error where it is missing or over 1 MiB.
std::string read_config_text(const std::filesystem::path& path);

// Settings from a YAML text; keys that are not stated keep the struct's defaults. Throws Error.
template <class T>
T parse_text(std::string_view yaml, std::string_view source,
             std::span<const std::string> overrides = {}) {
  T settings;
  const Locations locations = apply(describe(settings), yaml, source, overrides);
  report(broken_rules(settings), locations, source);
  return settings;
}

// The same from a file.
template <class T>
T read(const std::filesystem::path& path, std::span<const std::string> overrides = {}) {
  return parse_text<T>(read_config_text(path), path.string(), overrides);
}

// The settings as YAML that reads back to the same struct.
template <class T>
std::string dump(T settings) {
  return dump_schema(describe(settings));
}

// Every key with its default, its help and what it accepts, for --help.
template <class T>
std::string help() {
  T defaults;
  return help_schema(describe(defaults));
}

}  // namespace qlora::config
