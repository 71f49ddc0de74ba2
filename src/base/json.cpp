#include "qlora/base/json.h"

#include "qlora/base/file.h"
#include "qlora/base/text_util.h"

#include <cstdint>
#include <vector>

namespace qlora {
namespace {

constexpr int kMaxDepth = 256;

template <class T>
struct Kind;
template <>
struct Kind<bool> {
  static constexpr const char* name = "true or false";
  static bool matches(const Json& v) { return v.is_boolean(); }
};
template <>
struct Kind<std::int64_t> {
  static constexpr const char* name = "a whole number";
  static bool matches(const Json& v) {
    return v.is_number_integer() && !(v.is_number_unsigned() && v.get<std::uint64_t>() >> 63 != 0);
  }
};
template <>
struct Kind<double> {
  static constexpr const char* name = "a number";
  static bool matches(const Json& v) { return v.is_number(); }
};
template <>
struct Kind<std::string> {
  static constexpr const char* name = "a text";
  static bool matches(const Json& v) { return v.is_string(); }
};
template <class T>
struct Kind<std::vector<T>> {
  static constexpr const char* name = "a list";
  static bool matches(const Json& v) {
    if (!v.is_array()) return false;
    for (const Json& item : v) {
      if (!Kind<T>::matches(item)) return false;
    }
    return true;
  }
};

}  // namespace

Json parse_json(std::string_view text, std::string_view where) {
  const auto limit_depth = [](int depth, Json::parse_event_t, Json&) {
    if (depth > kMaxDepth) throw Error(fmt::format("nested deeper than {} levels", kMaxDepth));
    return true;
  };
  try {
    return Json::parse(text.begin(), text.end(), limit_depth);
  } catch (const nlohmann::json::exception& error) {
    fail("{}: not valid JSON: {}", where, error.what());
  } catch (const Error& error) {
    fail("{}: not acceptable JSON: {}", where, error.what());
  }
}

Json read_json(const std::filesystem::path& path) {
  return parse_json(read_text(path), path.string());
}

const Json* json_find(const Json& object, std::string_view key) {
  const auto it = object.find(std::string(key));
  return it == object.end() || it->is_null() ? nullptr : &*it;
}

std::string json_keys(const Json& object) {
  std::vector<std::string> keys;
  for (const auto& [key, value] : object.items()) keys.push_back(key);
  return keys.empty() ? "none" : join(keys);
}

template <class T>
T json_get(const Json& object, std::string_view key, std::string_view where) {
  const auto it = object.find(std::string(key));
  if (it == object.end()) fail("{}: '{}' is missing; expected {}", where, key, Kind<T>::name);
  if (!Kind<T>::matches(*it)) {
    fail("{}: '{}' is {}; expected {}", where, key, it->dump().substr(0, 60), Kind<T>::name);
  }
  return it->template get<T>();
}

template bool json_get<bool>(const Json&, std::string_view, std::string_view);
template std::int64_t json_get<std::int64_t>(const Json&, std::string_view, std::string_view);
template double json_get<double>(const Json&, std::string_view, std::string_view);
template std::string json_get<std::string>(const Json&, std::string_view, std::string_view);
template std::vector<std::int64_t> json_get<std::vector<std::int64_t>>(const Json&,
                                                                       std::string_view,
                                                                       std::string_view);
template std::vector<std::string> json_get<std::vector<std::string>>(const Json&, std::string_view,
                                                                     std::string_view);

}  // namespace qlora
