#pragma once
// JSON whose objects may hold very many keys: sorted maps instead of base's ordered lists (which
// search linearly), and no key may come twice.

#include "qlora/base/json.h"

#include <string_view>

namespace qlora::io {

using JsonMap = nlohmann::json;

// Throws Error (starting with `where`) for malformed text, a repeated key, or nesting deeper than
// 16.
JsonMap parse_json_map(std::string_view text, std::string_view where);

}  // namespace qlora::io
