#include "data/conversations.h"

#include "data/row_error.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace qlora::data {
namespace {

using ::testing::HasSubstr;

Json json(const char* text) { return parse_json(text, "test"); }

Json turns_of(const char* list) {
  return read_turns(Json{{"turns", json(list)}}, "turns", "a.json:3");
}

// What the action fails with, and how it is counted.
template <class Action>
std::pair<RowFault, std::string> fault_of(Action action) {
  try {
    action();
  } catch (const RowError& error) {
    return {error.fault(), error.what()};
  }
  return {RowFault::File, "no RowError"};
}

TEST(Conversations, ShareGptSpeakersHaveRoles) {
  EXPECT_EQ(turns_of(R"([{"from": "system", "value": "s"}, {"from": "human", "value": "q"},
                         {"from": "gpt", "value": "a"}, {"from": "observation", "value": "o"}])"),
            json(R"([{"role": "system", "content": "s"}, {"role": "user", "content": "q"},
                     {"role": "assistant", "content": "a"}, {"role": "tool", "content": "o"}])"));
  const auto [fault, what] = fault_of([] { turns_of(R"([{"from": "alien", "value": "x"}])"); });
  EXPECT_EQ(fault, RowFault::WrongType);
  EXPECT_EQ(what,
            "a.json:3: an unknown speaker 'alien'; expected human, gpt, system, "
            "function_call or observation");
}

TEST(Conversations, CallsOfShareGptBecomeToolCalls) {
  const Json expected = json(R"([{"role": "assistant", "content": "", "tool_calls": [
      {"type": "function", "function": {"name": "f", "arguments": {"x": [1, "둘"]}}}]}])");
  EXPECT_EQ(turns_of(R"([{"from": "function_call",
      "value": "{\"name\": \"f\", \"arguments\": {\"x\": [1, \"둘\"]}}"}])"),
            expected);
  EXPECT_EQ(turns_of(R"([{"from": "function_call",
      "value": [{"name": "f", "arguments": "{\"x\": [1, \"둘\"]}"}]}])"),
            expected);
  EXPECT_EQ(fault_of([] { turns_of(R"J([{"from": "function_call", "value": "f(1)"}])J"); }).second,
            "a.json:3: a call is a text that is not JSON: f(1)");
}

// Templates write arguments as JSON, so that a text of JSON would come out quoted twice.
TEST(Conversations, ArgumentsOfOpenAiCallsAreUnpacked) {
  EXPECT_EQ(turns_of(R"([{"role": "assistant", "content": null, "weight": 1, "tool_calls": [
      {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{\"x\": 1}"}}]}])"),
            json(R"([{"role": "assistant", "content": "", "weight": 1, "tool_calls": [
      {"id": "c1", "type": "function", "function": {"name": "f", "arguments": {"x": 1}}}]}])"));
  EXPECT_EQ(turns_of(R"([{"role": "assistant", "content": null,
                          "function_call": {"name": "f", "arguments": "{}"}},
                         {"role": "function", "name": "f", "content": "1"}])"),
            json(R"([{"role": "assistant", "content": "", "tool_calls": [
                      {"type": "function", "function": {"name": "f", "arguments": {}}}]},
                     {"role": "tool", "name": "f", "content": "1"}])"));
}

TEST(Conversations, ToolsAreWrappedAsTemplatesExpectThem) {
  const Json expected =
      json(R"([{"type": "function", "function": {"name": "f", "parameters": {}}}])");
  for (const char* row :
       {R"({"tools": [{"name": "f", "parameters": {}}]})",
        R"({"tools": "[{\"name\": \"f\", \"parameters\": {}}]"})",
        R"({"tools": null, "functions": [{"name": "f", "parameters": {}}]})",
        R"({"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]})"}) {
    EXPECT_EQ(read_tools(json(row), "x"), expected) << row;
  }
  for (const char* row : {R"({})", R"({"tools": ""})", R"({"tools": "[]"})", R"({"tools": []})"}) {
    EXPECT_TRUE(read_tools(json(row), "x").is_null()) << row;
  }
  EXPECT_EQ(fault_of([] { read_tools(json(R"({"tools": {"a": 1}})"), "x"); }).second,
            "x: 'tools' is not a list");
}

TEST(Conversations, RolesHaveAnOrder) {
  const auto problem = [](const std::vector<std::string>& roles) {
    Json messages = Json::array();
    for (const std::string& role : roles) messages.push_back({{"role", role}, {"content", "x"}});
    const auto [fault, what] = fault_of([&] { expect_role_order(messages, "a:1"); });
    EXPECT_TRUE(fault == RowFault::RoleOrder || what == "no RowError") << what;
    return what;
  };
  const char* const fine = "no RowError";
  EXPECT_EQ(problem({"system", "user", "assistant", "user", "user", "assistant"}), fine);
  EXPECT_EQ(problem({"user", "assistant", "tool", "tool", "assistant"}), fine);
  EXPECT_EQ(problem({"system", "assistant"}), fine);
  EXPECT_EQ(
      problem({"user", "system", "assistant"}),
      "a:1: message 2 is of role 'system' behind 'user': the system's turn must be the first");
  EXPECT_THAT(problem({"user", "assistant", "assistant"}),
              HasSubstr("message 3 is of role 'assistant' behind 'assistant': two answers"));
  EXPECT_THAT(problem({"user", "tool", "assistant"}),
              HasSubstr("message 2 is of role 'tool' behind 'user': a tool's result must follow"));
}

TEST(Conversations, MarksSayWhichAnswersAreLearned) {
  const Json turns = turns_of(R"([{"role": "user", "content": "q", "train": false},
      {"role": "assistant", "content": "a", "weight": 0},
      {"role": "assistant", "content": "b", "weight": 1, "train": true},
      {"from": "gpt", "value": "c", "training": false}, {"from": "gpt", "value": "d"}])");
  std::string learned;
  for (const Json& turn : turns) learned += is_learned(turn) ? turn["content"] : Json("-");
  EXPECT_EQ(learned, "--b-d");
}

TEST(Conversations, MarksAreOfAnswersAndWhole) {
  const auto error_of = [](const char* message) {
    return fault_of([message] { turns_of(message); }).second;
  };
  EXPECT_EQ(error_of(R"([{"role": "assistant", "content": "a", "weight": 0.5}])"),
            "a.json:3: a message has the weight 0.5; expected 0 or 1");
  EXPECT_EQ(error_of(R"([{"from": "human", "value": "q", "train": true}])"),
            "a.json:3: a message of role 'user' is marked as learned; expected marks on answers "
            "alone");
  EXPECT_THROW(turns_of(R"([{"role": "assistant", "content": "a", "train": "yes"}])"), Error);
}

TEST(Conversations, SayWhatIsWrongWithAMessage) {
  const auto error_of = [](const char* list) {
    return fault_of([list] { turns_of(list); }).second;
  };
  EXPECT_THAT(error_of("[]"), HasSubstr("a.json:3: 'turns' is not a list of messages; expected"));
  EXPECT_EQ(error_of(R"(["x"])"), "a.json:3: a message is not an object");
  EXPECT_EQ(error_of(R"([{"role": "user"}])"), "a.json:3: a message has no content");
  EXPECT_EQ(error_of(R"([{"role": "user", "content": [{"type": "image"}]}])"),
            "a.json:3: a part of a content is not text; only text is learned");
  EXPECT_EQ(error_of(R"([{"role": "assistant", "tool_calls": [7]}])"),
            "a.json:3: a tool call is number; expected an object of name and arguments");
}

}  // namespace
}  // namespace qlora::data
