#include "text/pre_tokenizer.h"

#include "text/test_files.h"

#include <gtest/gtest.h>

namespace qlora::text {
namespace {

std::string words(const Json& description, std::string_view text, bool at_start = true) {
  Words all;
  all.text = text;
  RegexScratch scratch;
  PreTokenizer(description, "test").apply(all, at_start, scratch);
  std::string out;
  for (const TextRange& range : all.ranges) {
    out += (out.empty() ? "" : "|") + all.text.substr(range.begin, range.end - range.begin);
  }
  return out;
}

Json split(const char* behavior, bool invert = false, const char* kind = "Regex") {
  return {
      {"type", "Split"}, {"pattern", {{kind, "-"}}}, {"behavior", behavior}, {"invert", invert}};
}

// The expected cuts are the Hugging Face library's (SplitDelimiterBehavior, its own examples).
TEST(PreTokenizer, SplitBehaviors) {
  const std::string text = "the-final--countdown";
  EXPECT_EQ(words(split("Removed"), text), "the|final|countdown");
  EXPECT_EQ(words(split("Isolated"), text), "the|-|final|-|-|countdown");
  EXPECT_EQ(words(split("MergedWithPrevious"), text), "the-|final-|-|countdown");
  EXPECT_EQ(words(split("MergedWithNext"), text), "the|-final|-|-countdown");
  EXPECT_EQ(words(split("Contiguous"), text), "the|-|final|--|countdown");
  EXPECT_EQ(words(split("Removed", true), text), "-|-|-");
  EXPECT_EQ(words(split("Isolated", false, "String"), text), "the|-|final|-|-|countdown");
}

TEST(PreTokenizer, DigitsOneByOneOrTogether) {
  Json digits = {{"type", "Digits"}, {"individual_digits", true}};
  EXPECT_EQ(words(digits, "a12\u0967b\u00bd"), "a|1|2|\u0967|b|\u00bd");
  digits["individual_digits"] = false;
  EXPECT_EQ(words(digits, "a12\u0967b\u00bd"), "a|12\u0967|b|\u00bd");
}

TEST(PreTokenizer, ByteLevelCutsAsGpt2) {
  Json level = {{"type", "ByteLevel"}, {"add_prefix_space", false}};
  EXPECT_EQ(words(level, "I'll be  there 42!"), "I|'ll| be| | there| 42|!");
  level["use_regex"] = false;
  EXPECT_EQ(words(level, "I'll be"), "I'll be");
  level["add_prefix_space"] = true;
  EXPECT_EQ(words(level, "I'll be"), " I'll be");
  EXPECT_EQ(words(level, " be"), " be");
}

TEST(PreTokenizer, MetaspaceMarksSpaces) {
  Json meta = {{"type", "Metaspace"}, {"replacement", "_"}, {"prepend_scheme", "first"}};
  EXPECT_EQ(words(meta, "a b  c"), "_a|_b|_|_c");
  EXPECT_EQ(words(meta, "a b", false), "a|_b");
  meta["prepend_scheme"] = "always";
  EXPECT_EQ(words(meta, "a", false), "_a");
  EXPECT_EQ(words(meta, " a", false), "_a");
  meta["prepend_scheme"] = "never";
  meta["split"] = false;
  EXPECT_EQ(words(meta, "a b"), "a_b");
}

TEST(PreTokenizer, SequenceGoesOnWithinEachWord) {
  const Json sequence = {
      {"type", "Sequence"},
      {"pretokenizers", Json::array({{{"type", "Digits"}, {"individual_digits", true}},
                                     {{"type", "ByteLevel"}, {"add_prefix_space", false}}})}};
  // The trailing space of "a " ends its piece, so \s+(?!\S) takes it.
  EXPECT_EQ(words(sequence, "ab cd 12"), "ab| cd| |1|2");
  EXPECT_EQ(words(sequence, ""), "");
}

TEST(PreTokenizer, UnknownTypesAreRefusedByName) {
  const auto message = test::message_of([] {
    PreTokenizer({{"type", "BertPreTokenizer"}}, "file");
  });
  EXPECT_NE(message.find("'BertPreTokenizer'"), std::string::npos) << message;
  const auto behavior = test::message_of([] { PreTokenizer(split("Sideways"), "file"); });
  EXPECT_NE(behavior.find("'Sideways'"), std::string::npos) << behavior;
}

}  // namespace
}  // namespace qlora::text
