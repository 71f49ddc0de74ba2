#pragma once
// JSON values (nlohmann-json, key order kept) and the readers that say what is wrong and where.

#include "qlora/base/error.h"

#include <nlohmann/json.hpp>

#include <filesystem>
#include <string>
#include <string_view>

namespace qlora {

using Json = nlohmann::ordered_json;

// Parses one JSON text. `where` names its source in errors. Nesting deeper than 256 is refused.
Json parse_json(std::string_view text, std::string_view where);

// Reads and parses a file; throws Error where it is missing or broken.
Json read_json(const std::filesystem::path& path);

// The value under `key`; null where the key is absent or its value is JSON's null.
const Json* json_find(const Json& object, std::string_view key);

// The object's keys for a message: "instruction, output", or "none".
std::string json_keys(const Json& object);

// The value under `key` as T. Throws Error "where: 'key' ..." where it is absent or of another
// type.
template <class T>
T json_get(const Json& object, std::string_view key, std::string_view where);

// The same, but `fallback` where the key is absent or null.
template <class T>
T json_get_or(const Json& object, std::string_view key, T fallback, std::string_view where) {
  if (json_find(object, key) == nullptr) return fallback;
  return json_get<T>(object, key, where);
}

// Instances: bool, std::int64_t, double, std::string, std::vector<std::int64_t>,
// std::vector<std::string>.

}  // namespace qlora
