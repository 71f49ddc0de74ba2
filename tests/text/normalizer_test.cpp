#include "text/normalizer.h"

#include "text/test_files.h"

#include <gtest/gtest.h>

namespace qlora::text {
namespace {

std::string normalized(const Json& description, std::string_view text) {
  return Normalizer(description, "test").apply(text);
}

TEST(Normalizer, FormsAreUnicodes) {
  const std::string composed = "\u00e9", decomposed = "e\u0301", ligature = "\ufb01";
  EXPECT_EQ(normalized({{"type", "NFC"}}, decomposed + ligature), composed + ligature);
  EXPECT_EQ(normalized({{"type", "NFD"}}, composed + ligature), decomposed + ligature);
  EXPECT_EQ(normalized({{"type", "NFKC"}}, decomposed + ligature), composed + "fi");
  EXPECT_EQ(normalized({{"type", "NFKD"}}, composed + ligature), decomposed + "fi");
  EXPECT_EQ(normalized({{"type", "NFC"}}, "\u1112\u1161\u11ab"), "\ud55c");  // Hangul
  EXPECT_EQ(normalized({{"type", "NFC"}}, std::string_view("\0\u00e9", 3)),
            std::string_view("\0\u00e9", 3));
}

TEST(Normalizer, SequencesReplaceAndPrepend) {
  const Json steps =
      Json::array({{{"type", "Prepend"}, {"prepend", "_"}},
                   {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "_"}}});
  const Json sequence = {{"type", "Sequence"}, {"normalizers", steps}};
  EXPECT_EQ(normalized(sequence, "a  b"), "_a__b");
  EXPECT_EQ(normalized(sequence, ""), "");
  EXPECT_EQ(normalized(nullptr, "a"), "a");
}

TEST(Normalizer, UnknownTypesAreRefusedByName) {
  const auto message = test::message_of([] { Normalizer({{"type", "Lowercase"}}, "file"); });
  EXPECT_NE(message.find("'Lowercase'"), std::string::npos) << message;
}

TEST(Normalizer, ALongRunOfMarksTakesNoQuadraticTime) {
  // Two classes in turn, the worst case for sorting by exchange: minutes without care.
  std::string text = "a", sorted = "a";
  constexpr int kPairs = 150'000;
  for (int i = 0; i < kPairs; ++i) text += "\u0301\u0316";  // classes 230 and 220
  for (int i = 0; i < kPairs; ++i) sorted += "\u0316";
  for (int i = 0; i < kPairs; ++i) sorted += "\u0301";
  EXPECT_TRUE(normalized({{"type", "NFD"}}, text) == sorted);
}

}  // namespace
}  // namespace qlora::text
