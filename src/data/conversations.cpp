#include "data/conversations.h"

#include "data/row_error.h"

#include <array>
#include <utility>

namespace qlora::data {
namespace {

// ShareGPT's names of speakers, and those of the sets that imitate it.
constexpr std::array<std::pair<std::string_view, std::string_view>, 14> kSpeakers{
    {{"human", "user"},
     {"user", "user"},
     {"gpt", "assistant"},
     {"chatgpt", "assistant"},
     {"bing", "assistant"},
     {"bard", "assistant"},
     {"model", "assistant"},
     {"assistant", "assistant"},
     {"system", "system"},
     {"function_call", "call"},
     {"tool_call", "call"},
     {"observation", "tool"},
     {"tool", "tool"},
     {"function_response", "tool"}}};

// What is_learned reads.
constexpr const char* kMarks[] = {"weight", "train", "training"};

// JSON that may have been written into a text.
Json unpacked(const Json& value, std::string_view what, const std::string& where) {
  if (!value.is_string()) return value;
  try {
    return parse_json(value.get_ref<const std::string&>(), where);
  } catch (const Error&) {
    fail_row(RowFault::WrongType, "{}: {} is a text that is not JSON: {}", where, what,
             value.get_ref<const std::string&>().substr(0, 60));
  }
}

// A call {"name", "arguments"}, alone or under "function", with arguments as an object: chat
// templates write them as JSON themselves.
Json read_call(const Json& call, const std::string& where) {
  const Json& function = call.is_object() && call.contains("function") ? call.at("function") : call;
  if (!function.is_object()) {
    fail_row(RowFault::WrongType, "{}: a tool call is {}; expected an object of name and arguments",
             where, function.type_name());
  }
  Json checked = function;
  checked["name"] = json_get<std::string>(function, "name", where);
  checked["arguments"] =
      function.contains("arguments")
          ? unpacked(function.at("arguments"), "a tool call's 'arguments'", where)
          : Json::object();
  Json result = call.contains("function") ? call : Json{{"type", "function"}};
  result["function"] = std::move(checked);
  return result;
}

Json read_calls(const Json& calls, const std::string& where) {
  Json result = Json::array();
  if (!calls.is_array()) {
    result.push_back(read_call(calls, where));
    return result;
  }
  for (const Json& call : calls) result.push_back(read_call(call, where));
  return result;
}

// The marks of is_learned.
void expect_marks(const Json& message, const std::string& role, const std::string& where) {
  bool marked = false;
  if (const Json* const weight = json_find(message, "weight")) {
    if (*weight != 0 && *weight != 1) {
      fail_row(RowFault::WrongType, "{}: a message has the weight {}; expected 0 or 1", where,
               weight->dump().substr(0, 60));
    }
    marked = *weight == 1;
  }
  for (const char* const key : {"train", "training"}) {
    if (json_find(message, key) != nullptr) marked = marked || json_get<bool>(message, key, where);
  }
  if (!marked || role == "assistant") return;
  fail_row(RowFault::WrongType,
           "{}: a message of role '{}' is marked as learned; expected marks on answers alone",
           where, role);
}

// A content's parts: {"type": "text", "text": ...}; some tools write "value" for "text".
std::string text_of_parts(const Json& parts, const std::string& where) {
  std::string text;
  for (const Json& part : parts) {
    const bool known = part.is_object() && part.value("type", Json("text")) == "text";
    if (!known) {
      fail_row(RowFault::WrongType, "{}: a part of a content is not text; only text is learned",
               where);
    }
    text += json_get<std::string>(part, part.contains("value") ? "value" : "text", where);
  }
  return text;
}

Json read_message(const Json& message, const std::string& where) {
  expect_marks(message, json_get<std::string>(message, "role", where), where);
  Json checked = message;
  if (message.at("role") == "function") checked["role"] = "tool";  // OpenAI's older name
  if (const Json* call = json_find(message, "function_call")) {
    checked["tool_calls"] = read_calls(*call, where);
    checked.erase("function_call");
  } else if (const Json* calls = json_find(message, "tool_calls")) {
    checked["tool_calls"] = read_calls(*calls, where);
  }
  const Json* const content = json_find(message, "content");
  if (content == nullptr) {
    if (json_find(checked, "tool_calls") == nullptr) {
      fail_row(RowFault::WrongType, "{}: a message has no content", where);
    }
    checked["content"] = "";
  } else if (content->is_array()) {
    checked["content"] = text_of_parts(*content, where);
  } else {
    json_get<std::string>(message, "content", where);
  }
  return checked;
}

Json read_speech(const Json& turn, const std::string& where) {
  const auto from = json_get<std::string>(turn, "from", where);
  for (const auto& [speaker, role] : kSpeakers) {
    if (speaker != from) continue;
    Json message{{"role", role}};
    if (role != "call") {
      message["content"] = json_get<std::string>(turn, "value", where);
    } else {
      if (!turn.contains("value")) json_get<std::string>(turn, "value", where);
      const Json calls = unpacked(turn.at("value"), "a call", where);
      message = {{"role", "assistant"}, {"content", ""}, {"tool_calls", read_calls(calls, where)}};
    }
    for (const char* const mark : kMarks) {
      if (const Json* const value = json_find(turn, mark)) message[mark] = *value;
    }
    expect_marks(message, message.at("role").get<std::string>(), where);
    return message;
  }
  fail_row(RowFault::WrongType,
           "{}: an unknown speaker '{}'; expected human, gpt, system, "
           "function_call or observation",
           where, from);
}

}  // namespace

Json read_turns(const Json& row, std::string_view column, const std::string& where) {
  const Json& list = row.at(std::string(column));
  if (!list.is_array() || list.empty()) {
    fail_row(RowFault::WrongType,
             "{}: '{}' is not a list of messages; expected [{{\"role\": ..., \"content\": ...}}, "
             "...]",
             where, column);
  }
  Json messages = Json::array();
  for (const Json& turn : list) {
    if (!turn.is_object()) fail_row(RowFault::WrongType, "{}: a message is not an object", where);
    messages.push_back(turn.contains("from") ? read_speech(turn, where)
                                             : read_message(turn, where));
  }
  return messages;
}

Json read_tools(const Json& row, const std::string& where) {
  const Json* found = json_find(row, "tools");
  if (found == nullptr) found = json_find(row, "functions");  // OpenAI's older name
  if (found == nullptr || *found == "") return nullptr;
  const Json list = unpacked(*found, "'tools'", where);
  if (!list.is_array()) fail_row(RowFault::WrongType, "{}: 'tools' is not a list", where);
  Json tools = Json::array();
  for (const Json& tool : list) {
    const bool bare = tool.is_object() && tool.contains("name") && !tool.contains("function");
    tools.push_back(bare ? Json{{"type", "function"}, {"function", tool}} : tool);
  }
  return tools.empty() ? Json(nullptr) : tools;
}

bool is_learned(const Json& message) {
  const Json* const weight = json_find(message, "weight");
  return (weight == nullptr || *weight != 0) && message.value("train", Json(true)) != false &&
         message.value("training", Json(true)) != false;
}

void expect_role_order(const Json& messages, const std::string& where) {
  std::string before;
  for (std::size_t i = 0; i < messages.size(); ++i) {
    const auto role = messages[i].at("role").get<std::string>();
    std::string_view problem;
    if ((role == "system" || role == "developer") && i > 0) {
      problem = "the system's turn must be the first";
    } else if (role == "assistant" && before == "assistant") {
      problem = "two answers without a turn between them";
    } else if (role == "tool" && before != "assistant" && before != "tool") {
      problem = "a tool's result must follow the call";
    }
    if (!problem.empty()) {
      fail_row(RowFault::RoleOrder, "{}: message {} is of role '{}' behind '{}': {}", where, i + 1,
               role, before, problem);
    }
    before = role;
  }
}

}  // namespace qlora::data
