#include "qlora/base/text_util.h"

#include <gtest/gtest.h>

namespace qlora {
namespace {

const std::vector<std::string> kKeys{"lora_alpha", "lora_dropout", "r", "target_modules"};

TEST(NearestNameTest, FindsTypingMistakes) {
  EXPECT_EQ(nearest_name("lora_alhpa", kKeys), "lora_alpha");
  EXPECT_EQ(nearest_name("alpha", std::vector<std::string>{"alpha_", "beta"}), "alpha_");
  EXPECT_EQ(nearest_name("target_module", kKeys), "target_modules");
  EXPECT_EQ(nearest_name("lora_dropout", kKeys), "lora_dropout");
}

TEST(NearestNameTest, StaysSilentWhereNothingIsNear) {
  EXPECT_EQ(nearest_name("quantization", kKeys), "");
  EXPECT_EQ(nearest_name("anything", std::vector<std::string>{}), "");
}

TEST(JoinTest, PutsSeparatorsBetween) {
  EXPECT_EQ(join(std::vector<std::string>{"a", "b", "c"}), "a, b, c");
  EXPECT_EQ(join(std::vector<std::string>{"a", "b"}, " or "), "a or b");
  EXPECT_EQ(join(std::vector<std::string>{}), "");
}

TEST(HumanBytesTest, PicksTheUnit) {
  EXPECT_EQ(human_bytes(0), "0 B");
  EXPECT_EQ(human_bytes(1023), "1023 B");
  EXPECT_EQ(human_bytes(1024), "1.00 KiB");
  EXPECT_EQ(human_bytes(std::int64_t{3} << 29), "1.50 GiB");
  EXPECT_EQ(human_bytes(std::int64_t{5000} << 40), "5000.00 TiB");
}

TEST(Utf8Test, AcceptsTheEdgesOfEachLength) {
  for (const char* text :
       {"", "plain", "\x7f", "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf", "\xee\x80\x80",
        "\xef\xbf\xbf", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf", "누벼울"}) {
    EXPECT_EQ(find_invalid_utf8(text), std::string_view::npos) << text;
  }
}

TEST(Utf8Test, FindsTheFirstMalformedSequence) {
  const std::vector<std::string_view> broken{
      "\x80",              // continuation alone
      "\xc1\xbf",          // overlong two bytes
      "\xe0\x9f\xbf",      // overlong three bytes
      "\xed\xa0\x80",      // surrogate
      "\xf0\x8f\xbf\xbf",  // overlong four bytes
      "\xf4\x90\x80\x80",  // above U+10FFFF
      "\xf5\x80\x80\x80",
      "\xff",
      "\xc3",  // cut short
      "\xe2\x82",
      "\xf0\x9f\x98",
      "\xe2\x28\xa1",  // not a continuation
  };
  for (const auto bytes : broken) {
    EXPECT_EQ(find_invalid_utf8("ab" + std::string(bytes)), 2u);
    EXPECT_EQ(find_invalid_utf8(std::string(bytes) + "z"), 0u);
  }
}

}  // namespace
}  // namespace qlora
