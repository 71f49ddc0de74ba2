#include "text/regex.h"

#include "text/test_files.h"

#include <gtest/gtest.h>

namespace qlora::text {
namespace {

bool matches(const std::string& pattern, const std::string& text) {
  RegexScratch scratch;
  const auto found = Regex(pattern, "test").find(text, 0, scratch);
  return found && found->begin == 0 && found->end == text.size();
}

TEST(Regex, PropertiesAreUnicode) {
  EXPECT_TRUE(matches(R"(\p{L}+)", "a\u00e9\u6f22\uac00"));
  EXPECT_TRUE(matches(R"(\p{N}+)", "1\u0967\u00bd"));
  EXPECT_TRUE(matches(R"((?i:'LL))", "'ll"));
}

TEST(Regex, WhitespaceIsTheUnicodeProperty) {
  EXPECT_TRUE(matches(R"(\s+)", "\t\n \u00a0\u1680\u2003\u2028\u3000\u0085"));
  EXPECT_TRUE(matches(R"([\s]+)", "\u3000 "));
  // Not White_Space since Unicode 6.3, though PCRE2 counts it.
  EXPECT_FALSE(matches(R"(\s)", "\u180e"));
  EXPECT_TRUE(matches(R"(\S)", "\u180e"));
  EXPECT_FALSE(matches(R"(\S)", "\u3000"));
}

TEST(Regex, ABrokenPatternIsNamed) {
  const std::string error = test::message_of([] { Regex("(a", "tokenizer.json"); });
  EXPECT_TRUE(error.starts_with("tokenizer.json: the regular expression '(a'")) << error;
  EXPECT_THROW(Regex(std::string(1 << 20, 'a'), "test"), Error);
}

TEST(Regex, EndlessBacktrackingStopsWithAnError) {
  const Regex regex("(a|aa)+[bc]", "test");
  RegexScratch scratch;
  std::string text(200, 'a');
  text.back() = 'd';
  EXPECT_THROW(regex.find(text, 0, scratch), Error);
}

}  // namespace
}  // namespace qlora::text
