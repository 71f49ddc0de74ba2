#include "io/json_map.h"

#include <string>
#include <unordered_set>
#include <vector>

namespace qlora::io {
namespace {

constexpr std::size_t kMaxDepth = 16;
constexpr std::size_t kMaxMessage = 200;  // a parser's message may quote the hostile text

}  // namespace

JsonMap parse_json_map(std::string_view text, std::string_view where) {
  std::vector<std::unordered_set<std::string>> open;
  const auto check = [&](int, JsonMap::parse_event_t event, JsonMap& value) {
    using Event = JsonMap::parse_event_t;
    if (event == Event::object_start || event == Event::array_start) {
      if (open.size() == kMaxDepth) fail("{}: JSON nested deeper than {} levels", where, kMaxDepth);
      open.emplace_back();
    } else if (event == Event::object_end || event == Event::array_end) {
      open.pop_back();
    } else if (event == Event::key) {
      const auto& key = value.get_ref<const std::string&>();
      if (!open.back().insert(key).second) fail("{}: '{}' is there twice", where, key);
    }
    return true;
  };
  try {
    return JsonMap::parse(text.begin(), text.end(), check);
  } catch (const nlohmann::json::exception& error) {
    fail("{}: not valid JSON: {}", where, std::string(error.what()).substr(0, kMaxMessage));
  }
}

}  // namespace qlora::io
