#include "data/formats.h"

#include "qlora/base/text_util.h"

#include <algorithm>
#include <vector>

namespace qlora::data {
namespace {

// A content's parts: {"type": "text", "text": ...}; some tools write "value" for "text".
std::string text_of_parts(const Json& parts, const std::string& where) {
  std::string text;
  for (const Json& part : parts) {
    const bool known = part.is_object() && part.value("type", Json("text")) == "text";
    if (!known) fail("{}: a part of a content is not text; only text is learned", where);
    text += json_get<std::string>(part, part.contains("value") ? "value" : "text", where);
  }
  return text;
}

Json read_message(const Json& message, const std::string& where) {
  if (!message.is_object()) fail("{}: a message is not an object", where);
  json_get<std::string>(message, "role", where);
  Json checked = message;
  const auto content = message.find("content");
  if (content != message.end() && content->is_array()) {
    checked["content"] = text_of_parts(*content, where);
  } else if (content == message.end() || content->is_null()) {
    if (!message.contains("tool_calls")) fail("{}: a message has no content", where);
    checked["content"] = "";
  } else {
    json_get<std::string>(message, "content", where);
  }
  return checked;
}

Json read_messages(const Json& row, std::string_view column, const std::string& where) {
  const Json& list = row.at(std::string(column));
  if (!list.is_array() || list.empty()) {
    fail("{}: '{}' is not a list of messages; expected [{{\"role\": ..., \"content\": ...}}, ...]",
         where, column);
  }
  Json messages = Json::array();
  for (const Json& message : list) messages.push_back(read_message(message, where));
  return messages;
}

Json read_tools(const Json& row, const std::string& where) {
  const auto tools = row.find("tools");
  if (tools == row.end() || tools->is_null()) return nullptr;
  // Table formats cannot hold nested lists of any shape, so that tools are often JSON in a text.
  Json list =
      tools->is_string() ? parse_json(tools->get<std::string>(), where + ": 'tools'") : *tools;
  if (!list.is_array()) fail("{}: 'tools' is not a list", where);
  return list.empty() ? Json(nullptr) : list;
}

Example read_instruction(const Json& row, const std::string& where) {
  return Instruction{json_get<std::string>(row, "instruction", where),
                     json_get_or<std::string>(row, "input", "", where),
                     json_get<std::string>(row, "output", where)};
}

Example read_conversation(const Json& row, const std::string& where) {
  return Conversation{read_messages(row, "messages", where), read_tools(row, where), 0};
}

Example read_prompt_completion(const Json& row, const std::string& where) {
  if (!row.at("prompt").is_array()) {
    return TextPair{json_get<std::string>(row, "prompt", where),
                    json_get<std::string>(row, "completion", where)};
  }
  Conversation conversation{read_messages(row, "prompt", where), read_tools(row, where), 0};
  conversation.first_answer = conversation.messages.size();
  for (Json& message : read_messages(row, "completion", where)) {
    conversation.messages.push_back(std::move(message));
  }
  return conversation;
}

constexpr Format kFormats[] = {
    {DataFormat::Messages, {"messages", ""}, read_conversation},
    {DataFormat::PromptCompletion, {"prompt", "completion"}, read_prompt_completion},
    {DataFormat::Instruction, {"instruction", "output"}, read_instruction},
};

bool has_column(const Json& row, std::string_view name) {
  return name.empty() || row.contains(name);
}

std::string needs_of(const Format& format) {
  const auto& [first, second] = format.required;
  return second.empty() ? fmt::format("'{}'", first) : fmt::format("'{}' and '{}'", first, second);
}

}  // namespace

const Format& find_format(DataFormat wanted, const Json& first_row, const std::string& where) {
  std::vector<std::string> known;
  for (const Format& format : kFormats) {
    const bool fits =
        has_column(first_row, format.required[0]) && has_column(first_row, format.required[1]);
    if (wanted == format.format || (wanted == DataFormat::Auto && fits)) return format;
    known.push_back(fmt::format("{} ({})", enum_name(format.format), needs_of(format)));
  }
  fail("{}: no known format has the columns {}; expected {}", where, json_keys(first_row),
       join(known));
}

Example read_example(const Format& format, const Json& row, const std::string& where) {
  for (const std::string_view column : format.required) {
    if (has_column(row, column)) continue;
    fail("{}: no column '{}'; the row has {}; format {} needs {}", where, column, json_keys(row),
         enum_name(format.format), needs_of(format));
  }
  return format.read(row, where);
}

Conversation to_conversation(const Instruction& instruction) {
  std::string question = instruction.instruction;
  if (!instruction.input.empty()) question += "\n\n" + instruction.input;
  Conversation conversation;
  conversation.messages =
      Json::array({Json{{"role", "user"}, {"content", question}},
                   Json{{"role", "assistant"}, {"content", instruction.output}}});
  conversation.first_answer = 1;
  return conversation;
}

}  // namespace qlora::data
