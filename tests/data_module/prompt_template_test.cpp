#include "data/prompt_template.h"

#include "data/row_error.h"
#include "support/message.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace qlora::data {
namespace {

using qlora::test::message_of;
using ::testing::HasSubstr;

// The filled prompt: learned text in [...], the template's own in '...'.
std::string filled(const std::string& text, const char* columns) {
  const PlainText plain =
      PromptTemplate::parse(text, "data.template").fill(parse_json(columns, "x"), "a:1");
  std::string shown;
  for (const TextPart& part : plain.parts) {
    const std::string own = part.verbatim ? "'" + part.text + "'" : part.text;
    shown += part.learned ? "[" + own + "]" : own;
  }
  return shown;
}

std::string template_error(const std::string& text, const char* columns = "{}") {
  return message_of([&] { filled(text, columns); });
}

TEST(PromptTemplate, LearnsFromTheLastColumnOn) {
  EXPECT_EQ(filled("### {instruction}\n=> {output}\n###", R"({"instruction": "i", "output": "o"})"),
            "'### 'i'\n=> '[o]['\n###']");
  EXPECT_EQ(filled("{a}{b}", R"({"a": "x", "b": "y"})"), "x[y]");
}

TEST(PromptTemplate, LearnsWhatIsMarked) {
  EXPECT_EQ(filled("{a}{% generation %}: {b}!{% endgeneration %} {c}",
                   R"({"a": "1", "b": "2", "c": "3"})"),
            "1[': '][2]['!']' '3");
  EXPECT_EQ(filled("{% generation %}{a}{% endgeneration %}{% generation %}{b}{% endgeneration %}",
                   R"({"a": "1", "b": "2"})"),
            "[1][2]");
}

TEST(PromptTemplate, BracesAreWrittenTwice) {
  EXPECT_EQ(filled("{{\"a\": {a}}}", R"({"a": "x"})"), "'{\"a\": '[x]['}']");
}

TEST(PromptTemplate, WritesNumbersAndNothing) {
  EXPECT_EQ(filled("{a}|{b}|{c}|{d}", R"({"a": 5, "b": null, "c": true, "d": -0.5})"),
            "5'|''|'true'|'[-0.5]");
}

TEST(PromptTemplate, AnEmptyAnswerIsNotLearned) {
  EXPECT_EQ(filled("{a} = {b}\n###", R"({"a": "x", "b": ""})"), "x' = ''\n###'");
}

TEST(PromptTemplate, ValuesAreNotReadAsTemplates) {
  EXPECT_EQ(filled("{a}", R"({"a": "{b}{% generation %}"})"), "[{b}{% generation %}]");
}

TEST(PromptTemplate, BuiltInOnes) {
  EXPECT_EQ(filled("dolly", R"({"instruction": "i", "input": "", "output": "o"})"),
            "'### Instruction:\n'i'\n\n### Input:\n''\n\n### Response:\n'[o]");
  EXPECT_EQ(filled("alpaca", R"({"instruction": "i", "input": "", "output": "o"})"),
            "'Below is an instruction that describes a task. Write a response that appropriately "
            "completes the request.\n\n### Instruction:\n'i'\n\n### Response:\n'[o]");
  EXPECT_EQ(filled("alpaca", R"({"instruction": "i", "input": "n", "output": "o"})"),
            "'Below is an instruction that describes a task, paired with an input that provides "
            "further context. Write a response that appropriately completes the request.\n\n"
            "### Instruction:\n'i'\n\n### Input:\n'n'\n\n### Response:\n'[o]");
}

TEST(PromptTemplate, SaysWhatIsWrong) {
  EXPECT_EQ(template_error("dolyl"),
            "data.template: no template is called 'dolyl'; expected alpaca, dolly, or a text with "
            "columns in braces");
  EXPECT_EQ(template_error("{a"),
            "data.template: { begins no column's name; a brace is written twice");
  EXPECT_EQ(template_error("{}"),
            "data.template: { begins no column's name; a brace is written twice");
  EXPECT_EQ(template_error("{a} }"), "data.template: } closes nothing; a brace is written twice");
  EXPECT_EQ(template_error("{% generation %}{a}"), "data.template: {% generation %} is not closed");
  EXPECT_EQ(template_error("{a}{% endgeneration %}"),
            "data.template: {% endgeneration %} ends nothing");
  EXPECT_EQ(template_error("{% generation %}{% generation %}"),
            "data.template: {% generation %} is inside another one");
  EXPECT_THAT(template_error("{{}}"),
              HasSubstr("the template has no column; expected one in braces"));
  EXPECT_EQ(template_error("{a}{b}", R"({"a": "x", "c": 1})"),
            "a:1: no column 'b', which the template names; the row has a, c");
  EXPECT_EQ(template_error("{a}", R"({"a": [1]})"),
            "a:1: 'a' is array; expected a text or a number");
}

}  // namespace
}  // namespace qlora::data
