#pragma once
// Lists of turns in the two ways that files have them, as messages for a chat template.

#include "qlora/base/json.h"

#include <string>
#include <string_view>

namespace qlora::data {

// `column` of the row: [{"role": ..., "content": ...}, ...] (OpenAI, TRL) or
// [{"from": ..., "value": ...}, ...] (ShareGPT). Throws RowError.
Json read_turns(const Json& row, std::string_view column, const std::string& where);

// The functions of column "tools" (or "functions"), each {"type": "function", "function": {...}};
// null where there are none. Table formats hold them as JSON in a text. Throws RowError.
Json read_tools(const Json& row, const std::string& where);

// Throws RowError where a system turn is not the first, an answer follows an answer, or a tool's
// result follows no answer.
void expect_role_order(const Json& messages, const std::string& where);

}  // namespace qlora::data
