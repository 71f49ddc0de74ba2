#include "data/formats.h"

#include "data/conversations.h"
#include "data/row_error.h"
#include "qlora/base/text_util.h"
#include "qlora/data/sample.h"

#include <algorithm>
#include <utility>

namespace qlora::data {
namespace {

using Examples = std::vector<Example>;

// --- one function a format -----------------------------------------------------------------------

Examples read_messages(const Format& format, const Json& row, const std::string& where) {
  Conversation conversation{read_turns(row, format.required[0], where), read_tools(row, where), 0};
  // ShareGPT rows may have the system's turn in a column of its own.
  const Json* const system = json_find(row, "system");
  if (system != nullptr && *system != "" && conversation.messages[0].at("role") != "system") {
    const Json turn{{"role", "system"}, {"content", json_get<std::string>(row, "system", where)}};
    conversation.messages.insert(conversation.messages.begin(), turn);
  }
  expect_role_order(conversation.messages, where);
  return {std::move(conversation)};
}

Examples read_prompt_completion(const Format& /*format*/, const Json& row,
                                const std::string& where) {
  if (!row.at("prompt").is_array()) {
    return {PlainText{{{json_get<std::string>(row, "prompt", where), false, true},
                       {json_get<std::string>(row, "completion", where), true, true}}}};
  }
  Conversation conversation{read_turns(row, "prompt", where), read_tools(row, where), 0};
  conversation.first_answer = conversation.messages.size();
  for (Json& message : read_turns(row, "completion", where)) {
    conversation.messages.push_back(std::move(message));
  }
  expect_role_order(conversation.messages, where);
  return {std::move(conversation)};
}

std::vector<std::pair<std::string, std::string>> read_history(const Json& row,
                                                              const std::string& where) {
  const Json* const history = json_find(row, "history");
  if (history == nullptr) return {};
  std::vector<std::pair<std::string, std::string>> turns;
  const auto is_pair = [](const Json& turn) {
    return turn.is_array() && turn.size() == 2 && turn[0].is_string() && turn[1].is_string();
  };
  if (!history->is_array() || !std::ranges::all_of(*history, is_pair)) {
    fail_row(RowFault::WrongType,
             "{}: 'history' is {}; expected a list of [question, answer], both texts", where,
             history->dump().substr(0, 60));
  }
  for (const Json& turn : *history) {
    turns.emplace_back(turn[0].get<std::string>(), turn[1].get<std::string>());
  }
  return turns;
}

Examples read_instruction(const Format& /*format*/, const Json& row, const std::string& where) {
  return {Instruction{.instruction = json_get<std::string>(row, "instruction", where),
                      .input = json_get_or<std::string>(row, "input", "", where),
                      .output = json_get<std::string>(row, "output", where),
                      .system = json_get_or<std::string>(row, "system", "", where),
                      .history = read_history(row, where)}};
}

Examples read_dolly(const Format& /*format*/, const Json& row, const std::string& where) {
  return {Instruction{json_get<std::string>(row, "instruction", where),
                      json_get_or<std::string>(row, "context", "", where),
                      json_get<std::string>(row, "response", where)}};
}

Examples read_kullm(const Format& /*format*/, const Json& row, const std::string& where) {
  const Json& instances = row.at("instances");
  if (!instances.is_array()) fail_row(RowFault::WrongType, "{}: 'instances' is not a list", where);
  Examples examples;
  for (const Json& instance : instances) {
    if (!instance.is_object()) {
      fail_row(RowFault::WrongType, "{}: an instance is not an object", where);
    }
    examples.emplace_back(Instruction{json_get<std::string>(row, "instruction", where),
                                      json_get_or<std::string>(instance, "input", "", where),
                                      json_get<std::string>(instance, "output", where)});
  }
  return examples;
}

Examples read_question_answer(const Format& format, const Json& row, const std::string& where) {
  return {Instruction{json_get<std::string>(row, format.required[0], where), "",
                      json_get<std::string>(row, format.required[1], where)}};
}

Examples read_text(const Format& /*format*/, const Json& row, const std::string& where) {
  return {PlainText{{{json_get<std::string>(row, "text", where), true, true}}}};
}

Examples read_tokens(const Format& /*format*/, const Json& row, const std::string& where) {
  Tokens tokens;
  tokens.ids = json_get<std::vector<std::int64_t>>(row, "input_ids", where);
  tokens.labels = json_get_or<std::vector<std::int64_t>>(row, "labels", tokens.ids, where);
  if (tokens.labels.size() != tokens.ids.size()) {
    fail_row(RowFault::WrongType, "{}: {} 'labels' for {} 'input_ids'; expected one each", where,
             tokens.labels.size(), tokens.ids.size());
  }
  for (std::size_t i = 0; i < tokens.ids.size(); ++i) {
    if (tokens.labels[i] == kNotLearned || tokens.labels[i] == tokens.ids[i]) continue;
    fail_row(RowFault::WrongType,
             "{}: labels[{}] is {}; expected {} (not learned) or the token "
             "itself, {}: labels are not shifted",
             where, i, tokens.labels[i], kNotLearned, tokens.ids[i]);
  }
  return {std::move(tokens)};
}

Examples read_classification(const Format& format, const Json& row, const std::string& where) {
  const Json& label = row.at(std::string(format.required[1]));
  const bool known = label.is_string() || label.is_number_integer() || label.is_boolean();
  if (!known) {
    fail_row(RowFault::WrongType, "{}: '{}' is {}; expected a class, as a text or a whole number",
             where, format.required[1], label.dump().substr(0, 60));
  }
  return {ClassifiedText{json_get<std::string>(row, format.required[0], where),
                         label.is_string() ? label.get<std::string>() : label.dump()}};
}

// Of several that fit a row, the first one is taken.
constexpr Format kFormats[] = {
    {DataFormat::Messages, {"messages", ""}, read_messages},
    {DataFormat::ShareGpt, {"conversations", ""}, read_messages},
    {DataFormat::PromptCompletion, {"prompt", "completion"}, read_prompt_completion},
    {DataFormat::Instruction, {"instruction", "output"}, read_instruction, true},
    {DataFormat::Dolly, {"instruction", "response"}, read_dolly, true},
    {DataFormat::Kullm, {"instruction", "instances"}, read_kullm, true},
    {DataFormat::QuestionAnswer, {"question", "answer"}, read_question_answer, true},
    {DataFormat::QuestionAnswer, {"question", "response"}, read_question_answer, true},
    {DataFormat::QuestionAnswer, {"query", "answer"}, read_question_answer, true},
    {DataFormat::QuestionAnswer, {"query", "response"}, read_question_answer, true},
    {DataFormat::QuestionAnswer, {"prompt", "response"}, read_question_answer, true},
    {DataFormat::QuestionAnswer, {"input", "output"}, read_question_answer, true},
    {DataFormat::QuestionAnswer, {"Q", "A"}, read_question_answer, true},
    {DataFormat::Tokens, {"input_ids", ""}, read_tokens},
    {DataFormat::Classification, {"text", "label"}, read_classification},
    {DataFormat::Classification, {"sentence", "label"}, read_classification},
    {DataFormat::Classification, {"document", "label"}, read_classification},
    {DataFormat::Text, {"text", ""}, read_text},
};

// --- finding it ----------------------------------------------------------------------------------

bool has_columns(const Json& row, const Format& format) {
  return std::ranges::all_of(format.required, [&row](std::string_view name) {
    return name.empty() || row.contains(name);
  });
}

std::string needs_of(const Format& format) {
  const auto& [first, second] = format.required;
  return second.empty() ? fmt::format("'{}'", first) : fmt::format("'{}' and '{}'", first, second);
}

// Learning all answers of such rows would teach the bad ones, too.
void refuse_preferences(const Json& row, const std::string& where) {
  const bool judged =
      row.contains("label") && (row.contains("messages") || row.contains("completion"));
  if (!judged && !row.contains("chosen") && !row.contains("rejected")) return;
  fail(
      "{}: the columns {} are of preferences between answers, which are not trained on; name "
      "data.format where every answer is to be learned",
      where, json_keys(row));
}

}  // namespace

const Format* fitting_format(DataFormat wanted, const Json& row) {
  for (const Format& format : kFormats) {
    const bool meant = wanted == DataFormat::Auto || wanted == format.format;
    if (meant && has_columns(row, format)) return &format;
  }
  return nullptr;
}

const Format& find_format(DataFormat wanted, const Json& row, const std::string& where) {
  if (wanted == DataFormat::Auto) refuse_preferences(row, where);
  if (const Format* const format = fitting_format(wanted, row)) return *format;
  std::vector<std::string> known;
  for (const Format& format : kFormats) {
    if (wanted != DataFormat::Auto && wanted != format.format) continue;
    known.push_back(fmt::format("{} ({})", enum_name(format.format), needs_of(format)));
  }
  fail_row(RowFault::MissingColumn, "{}: no {} format has the columns {}; expected {}", where,
           wanted == DataFormat::Auto ? "known" : enum_name(wanted), json_keys(row), join(known));
}

std::vector<Example> read_examples(const Format& format, const Json& row,
                                   const std::string& where) {
  for (const std::string_view column : format.required) {
    if (column.empty() || row.contains(column)) continue;
    fail_row(RowFault::MissingColumn, "{}: no column '{}'; the row has {}; format {} needs {}",
             where, column, json_keys(row), enum_name(format.format), needs_of(format));
  }
  try {
    return format.read(format, row, where);
  } catch (const RowError&) {
    throw;
  } catch (const Error& error) {  // a reader of JSON values, which names the place itself
    throw RowError(RowFault::WrongType, error.what());
  }
}

Conversation to_conversation(const Instruction& instruction) {
  std::string question = instruction.instruction;
  if (!instruction.input.empty()) question += "\n\n" + instruction.input;
  Conversation conversation;
  conversation.messages = Json::array();
  const auto add = [&conversation](const char* role, const std::string& content) {
    conversation.messages.push_back({{"role", role}, {"content", content}});
  };
  if (!instruction.system.empty()) add("system", instruction.system);
  for (const auto& [asked, answered] : instruction.history) {
    add("user", asked);
    add("assistant", answered);
  }
  add("user", question);
  add("assistant", instruction.output);
  return conversation;
}

}  // namespace qlora::data
