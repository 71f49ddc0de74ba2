#pragma once
// Lists of turns in the two ways that files have them, as messages for a chat template.

#include "qlora/base/json.h"

#include <string>
#include <string_view>

namespace qlora::data {

// `column` of the row: [{"role": ..., "content": ...}, ...] (OpenAI, TRL) or
// [{"from": ..., "value": ...}, ...] (ShareGPT). Throws RowError; also where a message that is not
// an answer is marked as learned, or an answer's weight is another one than 0 and 1.
Json read_turns(const Json& row, std::string_view column, const std::string& where);

// The functions of column "tools" (or "functions"), each {"type": "function", "function": {...}};
// null where there are none. Table formats hold them as JSON in a text. Throws RowError.
Json read_tools(const Json& row, const std::string& where);

// Whether an answer is learned: not where its message has "weight": 0 (OpenAI) or "train": false
// (axolotl; also "training").
bool is_learned(const Json& message);

// Throws RowError where a system turn is not the first, an answer follows an answer, or a tool's
// result follows no answer.
void expect_role_order(const Json& messages, const std::string& where);

}  // namespace qlora::data
