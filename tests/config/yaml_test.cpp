#include "config/yaml.h"

#include "support/message.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace qlora::config {
namespace {

using test::message_of;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::StartsWith;

TEST(YamlTest, BuildsTheTreeWithLines) {
  const Node root = parse_yaml("# title\nlora:\n  r: 8\n  names: [a, 'b c']\nempty:\n", "x.yaml");
  ASSERT_EQ(root.kind, Node::Kind::Map);
  ASSERT_EQ(root.items.size(), 4u);
  const Node& lora = root.items[1];
  EXPECT_EQ(lora.items[0].text, "r");
  EXPECT_EQ(lora.items[0].line, 3);
  EXPECT_EQ(lora.items[1].text, "8");
  EXPECT_EQ(lora.items[3].kind, Node::Kind::List);
  EXPECT_EQ(lora.items[3].items[1].text, "b c");
  EXPECT_EQ(root.items[3].kind, Node::Kind::Null);
}

TEST(YamlTest, AnEmptyTextIsNull) {
  EXPECT_EQ(parse_yaml("", "x").kind, Node::Kind::Null);
  EXPECT_EQ(parse_yaml("# only a comment\n", "x").kind, Node::Kind::Null);
}

TEST(YamlTest, NamesTheLineOfBrokenText) {
  EXPECT_THAT(message_of([] { parse_yaml("a: 1\nb: [1, 2\n", "q.yaml"); }), StartsWith("q.yaml:"));
  EXPECT_THAT(message_of([] { parse_yaml("a: 1\n\tb: 2\n", "q.yaml"); }),
              MatchesRegex("q.yaml:2: not valid YAML: .*"));
  EXPECT_THAT(message_of([] { parse_yaml("a: 1\nb: \"\xff\"\n", "q.yaml"); }),
              MatchesRegex("q.yaml:2: not valid UTF-8"));
}

TEST(YamlTest, RefusesWhatCouldGrowOrHide) {
  EXPECT_THAT(message_of([] { parse_yaml("a: &x [1]\nb: [*x, *x]\n", "q.yaml"); }),
              HasSubstr("q.yaml:1: an anchor or alias"));
  EXPECT_THAT(message_of([] { parse_yaml("a: 1\n---\nb: 2\n", "q.yaml"); }),
              HasSubstr("a second document"));
  EXPECT_THAT(message_of([] { parse_yaml(std::string(200000, '['), "q.yaml"); }),
              HasSubstr("q.yaml:1: nested too deeply"));
  std::string staircase;
  for (std::size_t level = 0; level < 40; ++level) staircase += std::string(level, ' ') + "a:\n";
  EXPECT_THAT(message_of([&] { parse_yaml(staircase, "q.yaml"); }), HasSubstr("nested too deeply"));
}

TEST(YamlTest, ScalarsReadBackAsTheSameText) {
  for (const std::string text :
       {"plain", "",         "null",       "~",      "true", "- a",  "a: b",
        "a #b",  "'",        "\"quoted\"", "\\d+",   "*",    "&x",   "line\nbreak",
        "\ttab", " spaces ", "누벼울",     "[a, b]", "{a}",  "%",    "@",
        "!",     "|",        ">",          "---",    "0x10", "\x01", ".*\\.q_proj|.*\\.v_proj"}) {
    const Node node = parse_yaml("key: " + yaml_scalar(text) + "\n", "x");
    EXPECT_EQ(node.items[1].kind, Node::Kind::Scalar) << text;
    EXPECT_EQ(node.items[1].text, text);
    const Node in_list = parse_yaml("key: [" + yaml_scalar(text) + "]\n", "x");
    EXPECT_EQ(in_list.items[1].items.at(0).text, text);
  }
}

}  // namespace
}  // namespace qlora::config
