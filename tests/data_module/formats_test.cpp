#include "data/formats.h"

#include "data/row_error.h"
#include "qlora/data/sample.h"
#include "support/message.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace qlora::data {
namespace {

using qlora::test::message_of;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

std::vector<Example> examples_of(const char* text, DataFormat wanted = DataFormat::Auto) {
  const Json row = parse_json(text, "test");
  return read_examples(find_format(wanted, row, "a:1"), row, "a:1");
}

DataFormat found(const char* text) {
  return find_format(DataFormat::Auto, parse_json(text, "test"), "a:1").format;
}

std::string format_error(const char* text, DataFormat wanted = DataFormat::Auto) {
  return message_of([&] { examples_of(text, wanted); });
}

void expect_instruction(const char* row, const std::string& instruction, const std::string& input,
                        const std::string& output) {
  const auto examples = examples_of(row);
  ASSERT_EQ(examples.size(), 1u) << row;
  const auto& got = std::get<Instruction>(examples[0]);
  EXPECT_EQ(got.instruction, instruction) << row;
  EXPECT_EQ(got.input, input) << row;
  EXPECT_EQ(got.output, output) << row;
}

TEST(Formats, AreToldByTheirColumns) {
  EXPECT_EQ(found(R"({"instruction": 1, "output": 1, "text": 1})"), DataFormat::Instruction);
  EXPECT_EQ(found(R"({"instruction": 1, "response": 1, "context": 1})"), DataFormat::Dolly);
  EXPECT_EQ(found(R"({"id": 1, "instruction": 1, "instances": 1})"), DataFormat::Kullm);
  EXPECT_EQ(found(R"({"messages": 1, "prompt": 1})"), DataFormat::Messages);
  EXPECT_EQ(found(R"({"conversations": 1, "tools": 1})"), DataFormat::ShareGpt);
  EXPECT_EQ(found(R"({"prompt": 1, "completion": 1})"), DataFormat::PromptCompletion);
  EXPECT_EQ(found(R"({"Q": 1, "A": 1, "label": 1})"), DataFormat::QuestionAnswer);
  EXPECT_EQ(found(R"({"text": 1})"), DataFormat::Text);
  EXPECT_EQ(found(R"({"text": 1, "label": 1})"), DataFormat::Classification);
  EXPECT_EQ(found(R"({"id": 1, "document": 1, "label": 1})"), DataFormat::Classification);
  EXPECT_EQ(found(R"({"input_ids": 1, "attention_mask": 1})"), DataFormat::Tokens);
  EXPECT_THAT(format_error(R"({"q": 1, "a": 2})"),
              StartsWith("a:1: no known format has the columns q, a; expected messages "
                         "('messages'), sharegpt ('conversations'), prompt_completion ('prompt' "
                         "and 'completion'), instruction ('instruction' and 'output'), dolly"));
}

TEST(Formats, ReadInstructions) {
  expect_instruction(R"({"instruction": "i", "input": null, "output": "o"})", "i", "", "o");
  expect_instruction(R"({"instruction": "i", "context": "c", "response": "r"})", "i", "c", "r");
  expect_instruction(R"({"instruction": "i", "response": "r"})", "i", "", "r");
  expect_instruction(R"({"instruction": "i", "instances": [{"input": "n", "output": "o"}]})", "i",
                     "n", "o");
  for (const char* row : {R"({"question": "q", "answer": "a"})", R"({"Q": "q", "A": "a"})",
                          R"({"query": "q", "response": "a"})", R"({"input": "q", "output": "a"})",
                          R"({"prompt": "q", "response": "a"})"}) {
    expect_instruction(row, "q", "", "a");
  }
}

TEST(Formats, InstructionsMayHaveSystemAndHistory) {
  const Json row = parse_json(R"({"instruction": "c", "output": "d", "system": "s",
                                  "history": [["a", "b"]]})",
                              "test");
  const Format& format = find_format(DataFormat::Auto, row, "a:1");
  const auto examples = read_examples(format, row, "a:1");
  EXPECT_EQ(to_conversation(std::get<Instruction>(examples.at(0))).messages, parse_json(R"([
      {"role": "system", "content": "s"}, {"role": "user", "content": "a"},
      {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"},
      {"role": "assistant", "content": "d"}])",
                                                                                        "test"));
  Json broken = row;
  broken["history"] = {"a", "b"};
  EXPECT_EQ(message_of([&] { read_examples(format, broken, "a:1"); }),
            "a:1: 'history' is [\"a\",\"b\"]; expected a list of [question, answer], both texts");
}

TEST(Formats, SeveralInstancesAreSeveralExamples) {
  const auto examples = examples_of(
      R"({"instruction": "i", "instances": [{"output": "a"}, {"input": "n", "output": "b"}]})");
  ASSERT_EQ(examples.size(), 2u);
  EXPECT_EQ(std::get<Instruction>(examples[1]).input, "n");
  EXPECT_EQ(std::get<Instruction>(examples[1]).output, "b");
}

TEST(Formats, ReadShareGptWithSystemAndTools) {
  const auto examples = examples_of(R"({"system": "s", "tools": "[{\"name\": \"f\"}]",
      "conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]})");
  const auto& conversation = std::get<Conversation>(examples.at(0));
  EXPECT_EQ(conversation.messages,
            parse_json(R"([{"role": "system", "content": "s"}, {"role": "user", "content": "q"},
                           {"role": "assistant", "content": "a"}])",
                       "x"));
  EXPECT_EQ(conversation.tools.at(0).at("function").at("name"), "f");
}

TEST(Formats, ReadTextAndTokens) {
  const auto text = std::get<PlainText>(examples_of(R"({"text": "t"})").at(0));
  ASSERT_EQ(text.parts.size(), 1u);
  EXPECT_TRUE(text.parts[0].learned);
  const auto all = std::get<Tokens>(examples_of(R"({"input_ids": [3, 4]})").at(0));
  EXPECT_THAT(all.labels, ElementsAre(3, 4));
  const auto some =
      std::get<Tokens>(examples_of(R"({"input_ids": [3, 4], "labels": [-100, 4]})").at(0));
  EXPECT_THAT(some.ids, ElementsAre(3, 4));
  EXPECT_THAT(some.labels, ElementsAre(kNotLearned, 4));
  EXPECT_EQ(format_error(R"({"input_ids": [3, 4], "labels": [4, -100]})"),
            "a:1: labels[0] is 4; expected -100 (not learned) or the token itself, 3: labels are "
            "not shifted");
  EXPECT_EQ(format_error(R"({"input_ids": [3, 4], "labels": [3]})"),
            "a:1: 1 'labels' for 2 'input_ids'; expected one each");
  EXPECT_THAT(format_error(R"({"input_ids": [3, "x"]})"), HasSubstr("expected a list"));
}

TEST(Formats, ReadClasses) {
  for (const char* row : {R"({"text": "t", "label": "1"})", R"({"document": "t", "label": 1})"}) {
    const auto got = std::get<ClassifiedText>(examples_of(row).at(0));
    EXPECT_EQ(got.text, "t");
    EXPECT_EQ(got.label, "1");
  }
  EXPECT_EQ(format_error(R"({"text": "t", "label": 0.5})"),
            "a:1: 'label' is 0.5; expected a class, as a text or a whole number");
  EXPECT_EQ(format_error(R"({"text": 3, "label": 0})"), "a:1: 'text' is 3; expected a text");
}

TEST(Formats, PreferencesAreNotGuessedAt) {
  for (const char* row : {R"({"prompt": "p", "chosen": "c", "rejected": "r"})",
                          R"({"conversations": [], "chosen": {}, "rejected": {}})",
                          R"({"messages": [], "label": true})"}) {
    EXPECT_THAT(format_error(row), HasSubstr("are of preferences between answers")) << row;
  }
  EXPECT_EQ(examples_of(R"({"messages": [{"role": "user", "content": "x"}], "label": true})",
                        DataFormat::Messages)
                .size(),
            1u);
}

TEST(Formats, TheNamedOneIsHeldTo) {
  EXPECT_EQ(format_error(R"({"question": "q", "answer": "a"})", DataFormat::Instruction),
            "a:1: no instruction format has the columns question, answer; expected instruction "
            "('instruction' and 'output')");
  EXPECT_EQ(examples_of(R"({"text": "t", "label": 1})", DataFormat::Text).size(), 1u);
  const Json first = parse_json(R"({"instruction": "q", "output": "a"})", "x");
  const Json second = parse_json(R"({"instruction": "q", "answer": "a"})", "x");
  const Format& format = find_format(DataFormat::Auto, first, "a:1");
  EXPECT_EQ(message_of([&] { read_examples(format, second, "a:2"); }),
            "a:2: no column 'output'; the row has instruction, answer; format instruction needs "
            "'instruction' and 'output'");
}

}  // namespace
}  // namespace qlora::data
