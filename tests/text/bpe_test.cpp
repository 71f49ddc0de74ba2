#include "text/test_files.h"

#include <gtest/gtest.h>

#include <numeric>
#include <thread>

namespace qlora::text {
namespace {

using Ids = std::vector<std::int32_t>;
using test_files::byte_level_file;

TEST(Bpe, LowestRankGoesFirstThenTheLeftmost) {
  // bc (256) before ab (257): "abc" -> a bc; "aaab": aa is no token, so a a ab.
  const auto tokenizer = test_files::load(byte_level_file({{"b", "c"}, {"a", "b"}}), "bpe_order");
  EXPECT_EQ(tokenizer->encode("abc"), (Ids{'a', 256}));
  EXPECT_EQ(tokenizer->encode("aaab"), (Ids{'a', 'a', 257}));
  const auto pairs = test_files::load(byte_level_file({{"a", "a"}}), "bpe_pairs");
  EXPECT_EQ(pairs->encode("aaaaa"), (Ids{256, 256, 'a'}));
}

TEST(Bpe, MergesBuildOnMerges) {
  const auto tokenizer =
      test_files::load(byte_level_file({{"l", "o"}, {"lo", "w"}, {" ", "low"}}), "bpe_chain");
  EXPECT_EQ(tokenizer->encode("low low"), (Ids{257, 258}));
}

TEST(Bpe, MergesMayBeListsOfTwo) {
  Json file = byte_level_file({{"a", "b"}});
  file["model"]["merges"] = Json::array({Json::array({"a", "b"})});
  EXPECT_EQ(test_files::load(file, "bpe_lists")->encode("ab"), Ids{256});
}

TEST(Bpe, IgnoreMergesTakesAWholeWordFromTheVocabulary) {
  Json file = byte_level_file({{"a", "b"}});
  file["model"]["vocab"]["abc"] = 300;
  EXPECT_EQ(test_files::load(file, "bpe_merges")->encode("abc"), (Ids{256, 'c'}));
  file["model"]["ignore_merges"] = true;
  EXPECT_EQ(test_files::load(file, "bpe_ignore")->encode("abc"), Ids{300});
}

TEST(Bpe, AByteOutsideTheVocabularyIsLeftOut) {
  Json file = byte_level_file({{"a", "b"}});
  file["model"]["vocab"].erase("x");
  EXPECT_EQ(test_files::load(file, "bpe_missing")->encode("axb"), Ids{256});
}

TEST(Bpe, CharactersFallBackToBytes) {
  Json vocab = {{"<unk>", 0}, {"\u2581", 1}, {"a", 2}, {"\u2581a", 3}};
  for (int byte = 0; byte < 256; ++byte) vocab[fmt::format("<0x{:02X}>", byte)] = 4 + byte;
  const Json mark = {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "\u2581"}};
  const Json prepend = {{"type", "Prepend"}, {"prepend", "\u2581"}};
  const Json strip = {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}};
  const Json file = {
      {"normalizer", {{"type", "Sequence"}, {"normalizers", Json::array({prepend, mark})}}},
      {"pre_tokenizer", nullptr},
      {"decoder", {{"type", "Sequence"}, {"decoders", Json::array({strip})}}},
      {"model",
       {{"type", "BPE"},
        {"vocab", vocab},
        {"byte_fallback", true},
        {"unk_token", "<unk>"},
        {"fuse_unk", true},
        {"merges", Json::array({"\u2581 a"})}}}};
  const auto tokenizer = test_files::load(file, "bpe_characters");
  EXPECT_EQ(tokenizer->encode("a aa"), (Ids{3, 3, 2}));
  EXPECT_EQ(tokenizer->encode("\u00e9"), (Ids{1, 4 + 0xC3, 4 + 0xA9}));
  EXPECT_EQ(tokenizer->decode(tokenizer->encode("a \u00e9 a")), "a \u00e9 a");
}

TEST(Bpe, AWordOfAMillionLettersIsNotQuadratic) {
  // Quadratic time would be minutes here; the test runner's time limit catches it.
  const auto tokenizer = test_files::load(byte_level_file({{"a", "a"}, {"aa", "aa"}}), "bpe_long");
  const Ids ids = tokenizer->encode(std::string(1'000'000, 'a'));
  EXPECT_EQ(ids, Ids(250'000, 257));
}

TEST(Bpe, ThreadsMayShareATokenizer) {
  const auto tokenizer =
      test_files::load(byte_level_file({{"l", "o"}, {"lo", "w"}}), "bpe_threads");
  std::string text;
  for (int i = 0; i < 2000; ++i) text += fmt::format("low {} slow ", i);
  const Ids expected = tokenizer->encode(text);
  std::vector<Ids> got(4);
  std::vector<std::thread> threads;
  for (Ids& ids : got) threads.emplace_back([&] { ids = tokenizer->encode(text); });
  for (std::thread& thread : threads) thread.join();
  for (const Ids& ids : got) EXPECT_EQ(ids, expected);
}

}  // namespace
}  // namespace qlora::text
