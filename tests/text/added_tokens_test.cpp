#include "text/added_tokens.h"

#include "qlora/base/error.h"
#include "text/test_files.h"

#include <gtest/gtest.h>

namespace qlora::text {
namespace {

using Ids = std::vector<std::int32_t>;

// "text|<7>|text": what the sections hold.
std::string show(const std::vector<AddedToken>& tokens, std::string_view text,
                 std::span<const TextRange> plain = {}) {
  std::string out;
  for (const Section& section : AddedTokenMatcher(tokens, "test").split(text, plain)) {
    if (!out.empty()) out += '|';
    if (section.token >= 0) out += fmt::format("<{}>", section.token);
    out += text.substr(section.range.begin, section.range.end - section.range.begin);
  }
  return out;
}

TEST(AddedTokens, TheLeftmostLongestMatches) {
  const std::vector<AddedToken> tokens = {
      {.id = 1, .content = "ab"}, {.id = 2, .content = "abcd"}, {.id = 3, .content = "bcdef"}};
  EXPECT_EQ(show(tokens, "xabcdef"), "x|<2>abcd|ef");
  EXPECT_EQ(show(tokens, "abcbcdef"), "<1>ab|c|<3>bcdef");
  EXPECT_EQ(show(tokens, "nothing"), "nothing");
  EXPECT_EQ(show({}, "nothing"), "nothing");
}

TEST(AddedTokens, StripFlagsTakeWhitespaceAlong) {
  EXPECT_EQ(show({{.id = 1, .content = "#", .lstrip = true}}, "a \u3000# b"), "a|<1> \u3000#| b");
  EXPECT_EQ(show({{.id = 1, .content = "#", .rstrip = true}}, "a # \tb"), "a |<1># \t|b");
}

TEST(AddedTokens, SingleWordNeedsNoWordCharacterBeside) {
  const std::vector<AddedToken> tokens = {{.id = 1, .content = "is", .single_word = true}};
  EXPECT_EQ(show(tokens, "this is, is_ \u00e9is"), "this |<1>is|, is_ \u00e9is");
}

TEST(AddedTokens, SpecialOnesDoNotMatchInPlainRanges) {
  const std::vector<AddedToken> tokens = {{.id = 1, .content = "<s>", .special = true},
                                          {.id = 2, .content = "  "}};
  const TextRange whole{0, 10};
  EXPECT_EQ(show(tokens, "<s>  <s><s>", std::span(&whole, 1)), "<s>|<2>  |<s><s>");
  const TextRange first{0, 1};
  EXPECT_EQ(show(tokens, "<s><s>", std::span(&first, 1)), "<s>|<1><s>");
  const TextRange empty{3, 3};
  EXPECT_EQ(show(tokens, "<s><s>", std::span(&empty, 1)), "<1><s>|<1><s>");
}

TEST(AddedTokens, EmptyOrHugeContentIsRefused) {
  EXPECT_THROW(AddedTokenMatcher({{.id = 1, .content = ""}}, "test"), Error);
  EXPECT_THROW(AddedTokenMatcher({{.id = 1, .content = std::string(5000, 'a')}}, "test"), Error);
}

TEST(AddedTokens, NormalizedOnesAreFoundAfterNormalization) {
  Json file = test_files::byte_level_file({});
  file["normalizer"] = {{"type", "NFKC"}};
  file["added_tokens"] =
      Json::array({{{"id", 256}, {"content", "[A]"}, {"normalized", true}, {"special", true}},
                   {{"id", 257}, {"content", "[B]"}, {"normalized", false}, {"special", true}}});
  const auto tokenizer = test_files::load(file, "added_normalized");
  // U+FF21 is a full-width A, U+FF22 a B.
  EXPECT_EQ(tokenizer->encode("[\uff21]"), Ids{256});
  EXPECT_EQ(tokenizer->encode("[\uff22]"), (Ids{'[', 'B', ']'}));
  EXPECT_EQ(tokenizer->encode("[A][B]", SpecialTokens::plain), (Ids{'[', 'A', ']', '[', 'B', ']'}));
  const TextRange second{3, 6};
  EXPECT_EQ(tokenizer->encode("[A][A][B]", std::span(&second, 1)), (Ids{256, '[', 'A', ']', 257}));
}

}  // namespace
}  // namespace qlora::text
