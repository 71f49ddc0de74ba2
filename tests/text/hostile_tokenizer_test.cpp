// Broken and hostile files: an Error, never a crash.

#include "text/sentencepiece_proto.h"
#include "text/test_files.h"
#include "text/tiktoken.h"
#include "text/tokenizer_json.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>

namespace qlora::text {
namespace {

using test::message_of;

std::string json_error(const Json& file) {
  return message_of([&] { test_files::load(file, "hostile"); });
}

std::string text_error(const std::string& text) {
  const auto folder = test::fresh_folder("hostile_text");
  write_text(folder / "tokenizer.json", text);
  return message_of([&] { load_tokenizer(folder); });
}

TEST(HostileTokenizer, JsonOfAnotherShapeIsAnError) {
  const char* const texts[] = {
      "",
      "{",
      "[]",
      "null",
      "{}",
      R"({"model": 1})",
      R"({"model": {}})",
      R"({"model": {"vocab": 5}})",
      R"({"model": {"vocab": {}}})",
      R"({"model": {"vocab": {"a": -1}}})",
      R"({"model": {"vocab": {"a": 1.5}}})",
      R"({"model": {"vocab": {"a": {}}}})",
      R"({"model": {"vocab": {"a": []}}})",
      R"({"model": {"vocab": {"a": 4294967296}}})",
      R"({"model": {"vocab": {"a": 0, "b": 0}}})",
      R"({"model": {"vocab": {"a": 2000000000}, "merges": []}})",
      R"({"model": {"vocab": {"a": 0}}})",
      R"({"model": {"vocab": {"a": 0}, "merges": [7]}})",
      R"({"model": {"vocab": {"a": 0}, "merges": ["a"]}})",
      R"({"model": {"vocab": {"a": 0}, "merges": ["a a a"]}})",
      R"({"model": {"vocab": {"a": 0}, "merges": ["a b"]}})",
      R"({"model": {"vocab": {"a": 0}, "merges": []}, "added_tokens": 3})",
      R"({"model": {"vocab": {"a": 0}, "merges": []}, "added_tokens": [3]})",
      R"({"model": {"vocab": {"a":0}, "merges": []}, "added_tokens": [{"id":-1, "content":"b"}]})",
      R"({"model": {"vocab": {"a": 0}, "merges": []}, "normalizer": 3})",
      R"({"model": {"vocab": {"a": 0}, "merges": []}, "normalizer": {"type": "Sequence"}})",
      R"({"model": {"vocab": {"a": 0}, "merges": []}, "pre_tokenizer": {"type": "Split"}})",
      R"({"model": {"vocab": {"a": 0}, "merges": [], "unk_token": "x"}})",
      R"({"model": {"vocab": {"a": 0}, "merges": [], "end_of_word_suffix": "x"}})",
      R"({"model": {"type": "WordPiece", "vocab": {"a": 0}, "merges": []}})",
  };
  for (const char* text : texts) EXPECT_NE(text_error(text), "") << text;
  EXPECT_EQ(text_error(R"({"model": {"vocab": {"a": 0}, "merges": []}})"), "");
}

TEST(HostileTokenizer, DeepOrWideJsonIsRefusedBeforeItCosts) {
  EXPECT_NE(text_error(std::string(1'000'000, '[')), "");
  std::string wide = "{";
  for (int i = 0; i < 200'000; ++i) wide += fmt::format("\"{}\":0,", i);
  EXPECT_NE(text_error(wide + "\"model\":{}}").find("more than"), std::string::npos);
  Json file = test_files::byte_level_file({});
  for (int i = 0; i < 50; ++i) {
    file["pre_tokenizer"] = {{"type", "Sequence"},
                             {"pretokenizers", Json::array({file["pre_tokenizer"]})}};
  }
  EXPECT_NE(json_error(file), "");
}

TEST(HostileTokenizer, AnAddedTokenFarOutsideIsRefused) {
  Json file = test_files::byte_level_file({});
  file["added_tokens"] = Json::array({{{"id", 2'000'000'000}, {"content", "x"}}});
  EXPECT_NE(json_error(file).find("2000000000"), std::string::npos);
}

TEST(HostileTokenizer, APatternWithoutEndStops) {
  Json file = test_files::byte_level_file({});
  file["pre_tokenizer"] = {
      {"type", "Sequence"},
      {"pretokenizers",
       Json::array(
           {{{"type", "Split"}, {"pattern", {{"Regex", "(a|aa)+[bc]"}}}, {"behavior", "Isolated"}},
            {{"type", "ByteLevel"}, {"use_regex", false}}})}};
  const auto tokenizer = test_files::load(file, "hostile_pattern");
  const std::string text = std::string(500, 'a') + "d";
  EXPECT_NE(message_of([&] { tokenizer->encode(text); }).find("gave up"), std::string::npos);
}

TEST(HostileTokenizer, ChangedBytesOfTokenizerJsonNeverCrash) {
  const std::string good = test_files::byte_level_file({{"a", "b"}, {"ab", "c"}}).dump();
  std::mt19937 random(7);
  const auto folder = test::fresh_folder("hostile_bytes");
  for (int i = 0; i < 300; ++i) {
    std::string bad = good;
    for (int k = 0; k < 3; ++k) bad[random() % bad.size()] = static_cast<char>(random());
    if (i % 3 == 0) bad.resize(random() % bad.size());
    write_text(folder / "tokenizer.json", bad);
    message_of([&] { load_tokenizer(folder)->encode("abc <s> \u00e9"); });
  }
}

TEST(HostileTokenizer, TiktokenLinesAreChecked) {
  EXPECT_EQ(describe_tiktoken("YQ== 0\nYg== 1\n", "t").tokens.size(), 2u);
  for (const char* text :
       {"YQ== 0\nYg== 2\n", "YQ== 0\nYg==\n", "YQ== 0\n!!!! 1\n", "YQ== 0\nYg== x",
        "YQ== 0\nYg== -1", "YQ== 0\n 1", "YQ== 0\nYg== 99999999999"}) {
    const auto message = message_of([&] { describe_tiktoken(text, "ranks"); });
    EXPECT_TRUE(message.starts_with("ranks:2:")) << text << ": " << message;
  }
}

// A small valid sentencepiece model with bytes and a control piece.
std::string small_sentencepiece() {
  SentencePieceModel model;
  model.model_type = SentencePieceModel::kBpe;
  model.pieces = {{"<unk>", 0, PieceType::unknown}, {"<s>", 0, PieceType::control}};
  for (int byte = 0; byte < 256; ++byte) {
    model.pieces.push_back({fmt::format("<0x{:02X}>", byte), 0, PieceType::byte});
  }
  model.pieces.push_back({"\u2581", -1, PieceType::normal});
  model.pieces.push_back({"a", -2, PieceType::normal});
  return serialize_sentencepiece(model);
}

std::string model_error(const std::string& bytes) {
  const auto folder = test::fresh_folder("hostile_model");
  write_text(folder / "tokenizer.model", bytes);
  return message_of([&] {
    const auto tokenizer = load_tokenizer(folder);
    tokenizer->decode(tokenizer->encode("a <s> \u00e9 1\uff11 \uac00"));
  });
}

TEST(HostileTokenizer, SentencepieceMessagesAreChecked) {
  const std::string good = small_sentencepiece();
  EXPECT_EQ(model_error(good), "");
  EXPECT_NE(model_error(""), "");
  EXPECT_NE(model_error("\xFF\xFF\xFF\xFF"), "");
  for (std::size_t size = 0; size < good.size(); size += 97) {
    model_error(good.substr(0, size));  // some cuts fall between two fields
  }
  // field 2 (trainer_spec) { field 3 (model_type): 3 (word) }
  EXPECT_NE(model_error(good + "\x12\x02\x18\x03").find("model type 3"), std::string::npos);
  // field 1 (pieces) { field 1: "\0" }
  EXPECT_NE(model_error(good + std::string("\x0A\x03\x0A\x01\x00", 5)), "");
}

// A model whose precompiled_charsmap is a trie of 256 empty units but for the first, and one text.
std::string with_first_trie_unit(std::uint32_t unit) {
  std::string map(4 + 256 * 4, '\0');
  const std::uint32_t trie_bytes = 256 * 4;
  std::memcpy(map.data(), &trie_bytes, 4);
  std::memcpy(map.data() + 4, &unit, 4);
  map += std::string("x\0", 2);
  // field 3 (normalizer_spec), length { field 2 (precompiled_charsmap), length: map }
  const auto length = [](std::size_t n) {
    return std::string{static_cast<char>(n | 0x80), static_cast<char>(n >> 7)};
  };
  const std::string inside = "\x12" + length(map.size()) + map;
  return small_sentencepiece() + "\x1A" + length(inside.size()) + inside;
}

TEST(HostileTokenizer, NormalizationTablesThatPointOutsideThemselvesAreRefused) {
  EXPECT_EQ(model_error(with_first_trie_unit(0)), "");
  const std::uint32_t far_child = 0x1FFFFFu << 10;
  const std::uint32_t value_past_the_texts = 1u << 8;  // its value would be unit 0 itself
  for (const std::uint32_t unit : {far_child, value_past_the_texts}) {
    EXPECT_TRUE(model_error(with_first_trie_unit(unit)).ends_with("normalization table is broken"));
  }
}

TEST(HostileTokenizer, ChangedBytesOfRealModelsNeverCrash) {
  const auto path = test::data_path("tokenizers/kobert/spiece.model");
  QLORA_REQUIRE_DATA(path);
  const std::string good = read_text(path);
  ASSERT_EQ(model_error(good), "");
  std::mt19937 random(11);
  // The last third holds the settings and the normalization table.
  const std::size_t tail = good.size() / 3 * 2;
  for (int i = 0; i < 60; ++i) {
    std::string bad = good;
    const std::size_t from = i % 2 == 0 ? tail : 0;
    for (int k = 0; k < 4; ++k) {
      bad[from + random() % (good.size() - from)] = static_cast<char>(random());
    }
    model_error(bad);
  }
}

}  // namespace
}  // namespace qlora::text
