#include "qlora/text/stream_decoder.h"

#include "qlora/base/text_util.h"
#include "text/test_files.h"

#include <gtest/gtest.h>

namespace qlora::text {
namespace {

using Ids = std::vector<std::int32_t>;

// One token a byte, and a special one.
std::unique_ptr<Tokenizer> bytes_tokenizer(const std::string& name) {
  Json file = test_files::byte_level_file({});
  file["added_tokens"] = Json::array({{{"id", 256}, {"content", "<end>"}, {"special", true}}});
  return test_files::load(file, name);
}

TEST(StreamDecoder, NeverEmitsHalfACharacter) {
  const auto tokenizer = bytes_tokenizer("stream_half");
  StreamDecoder decoder(*tokenizer);
  EXPECT_EQ(decoder.push(0xF0), "");
  EXPECT_EQ(decoder.push(0x9F), "");
  EXPECT_EQ(decoder.push(0x98), "");
  EXPECT_EQ(decoder.push(0x80), "\U0001F600");
  EXPECT_EQ(decoder.push('a'), "a");
  EXPECT_EQ(decoder.flush(), "");
}

TEST(StreamDecoder, WhatCannotBecomeACharacterComesOutAtOnce) {
  const auto tokenizer = bytes_tokenizer("stream_bad");
  StreamDecoder decoder(*tokenizer);
  EXPECT_EQ(decoder.push(0xE6), "");
  EXPECT_EQ(decoder.push('a'), "\uFFFDa");
  EXPECT_EQ(decoder.push(0xFF), "\uFFFD");
  EXPECT_EQ(decoder.push(0xE6), "");
  EXPECT_EQ(decoder.flush(), "\uFFFD");
  EXPECT_EQ(decoder.flush(), "");
}

TEST(StreamDecoder, SpecialTokensAreSkippedOrShown) {
  const auto tokenizer = bytes_tokenizer("stream_special");
  const Ids ids = {'a', 256, 'b'};
  EXPECT_EQ(tokenizer->decode(ids), "a<end>b");
  EXPECT_EQ(tokenizer->decode(ids, true), "ab");
  StreamDecoder shows(*tokenizer, false);
  EXPECT_EQ(shows.push(256), "<end>");
}

TEST(StreamDecoder, IdsWithoutATokenAreEmpty) {
  const auto tokenizer = bytes_tokenizer("stream_range");
  EXPECT_EQ(tokenizer->decode(Ids{-1, 'a', 257, 1 << 30}), "a");
}

TEST(StreamDecoder, SentencepieceSpaceAtTheStart) {
  const auto path = test::data_path("tokenizers/llama-2");
  QLORA_REQUIRE_DATA(path);
  const auto tokenizer = load_tokenizer(path);
  const Ids ids = tokenizer->encode("Hello world");
  EXPECT_EQ(tokenizer->decode(ids), "Hello world");
  std::string start, middle;
  StreamDecoder starts(*tokenizer), continues(*tokenizer, true, true);
  for (const std::int32_t id : ids) {
    start += starts.push(id);
    middle += continues.push(id);
  }
  EXPECT_EQ(start, "Hello world");
  EXPECT_EQ(middle, " Hello world");
}

TEST(StreamDecoder, EveryPieceOfRealTextIsWhole) {
  for (const char* name : {"qwen2", "llama-2", "exaone-3.5"}) {
    const auto path = test::data_path(std::string("tokenizers/") + name);
    QLORA_REQUIRE_DATA(path);
    const auto tokenizer = load_tokenizer(path);
    const std::string text = "\U0001F680 \ud55c\uad6d\uc5b4 \u1780\u17b6 \u6f22\u5b57 z\u0301!";
    const Ids ids = tokenizer->encode(text);
    StreamDecoder decoder(*tokenizer);
    std::string all;
    for (const std::int32_t id : ids) {
      const std::string piece = decoder.push(id);
      EXPECT_EQ(find_invalid_utf8(piece), std::string::npos);
      all += piece;
    }
    EXPECT_EQ(all + decoder.flush(), tokenizer->decode(ids)) << name;
  }
}

}  // namespace
}  // namespace qlora::text
