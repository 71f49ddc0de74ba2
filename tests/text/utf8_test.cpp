#include "qlora/text/utf8.h"

#include "text/unicode.h"

#include <gtest/gtest.h>

namespace qlora::text {
namespace {

const std::string kBad = "\uFFFD";

TEST(Pieces, BytesAreReadInOneFormOnly) {
  EXPECT_EQ(byte_of_piece("<0x0A>"), '\n');
  EXPECT_EQ(byte_of_piece("<0xFF>"), '\xFF');
  for (const char* other : {"", "<0x0A", "<0x0A>>", "<0x0AB", "<0x0G>", "<0x-1>", "<0x A>"}) {
    EXPECT_EQ(byte_of_piece(other), std::nullopt) << other;
  }
}

TEST(Utf8, WellFormedTextPassesUnchanged) {
  const std::string text = "a\u00e9\u6f22\U0001F600";
  EXPECT_EQ(repair_utf8(text), text);
  EXPECT_EQ(repair_utf8(""), "");
  EXPECT_EQ(repair_utf8(std::string_view("\0x", 2)), std::string_view("\0x", 2));
}

// The expected strings are Python's bytes.decode("utf-8", "replace").
TEST(Utf8, EachMaximalMalformedPartBecomesOneReplacement) {
  EXPECT_EQ(repair_utf8("a\xFFz"), "a" + kBad + "z");
  EXPECT_EQ(repair_utf8("\xE6\xBCz"), kBad + "z");                        // cut character
  EXPECT_EQ(repair_utf8("\xF0\x9F\x98"), kBad);                           // cut at the end
  EXPECT_EQ(repair_utf8("\xC0\xAF"), kBad + kBad);                        // overlong
  EXPECT_EQ(repair_utf8("\xED\xA0\x80"), kBad + kBad + kBad);             // surrogate
  EXPECT_EQ(repair_utf8("\xF4\x90\x80\x80"), kBad + kBad + kBad + kBad);  // past U+10FFFF
  EXPECT_EQ(repair_utf8("\xF0\x9F\xF0\x9F\x98\x80"), kBad + "\U0001F600");
}

TEST(Utf8, CuttingTheInputAnywhereChangesNothing) {
  const std::string bytes = "a\u6f22\xE6\xBC\U0001F600\xF0\x9F\x98\xFFq\xC3";
  const std::string whole = repair_utf8(bytes);
  for (std::size_t i = 0; i <= bytes.size(); ++i) {
    for (std::size_t j = i; j <= bytes.size(); ++j) {
      Utf8Repair repair;
      std::string out;
      repair.push(bytes.substr(0, i), out);
      repair.push(bytes.substr(i, j - i), out);
      repair.push(bytes.substr(j), out);
      repair.flush(out);
      ASSERT_EQ(out, whole) << i << " " << j;
    }
  }
}

}  // namespace
}  // namespace qlora::text
