// Real tokenizers over real text.

#include "qlora/base/file.h"
#include "qlora/base/parallel.h"
#include "qlora/base/text_util.h"
#include "qlora/text/tokenizer.h"
#include "qlora/text/utf8.h"
#include "support/test_data.h"

#include <gtest/gtest.h>

namespace qlora::text {
namespace {

using Ids = std::vector<std::int32_t>;

std::unique_ptr<Tokenizer> open(const char* name) {
  return load_tokenizer(test::data_path(std::string("tokenizers/") + name));
}

// These neither normalize nor strip, so a text comes back byte for byte.
TEST(RoundTrip, LosslessTokenizersGiveTheTextBack) {
  const auto corpus = test::data_path("corpora/wikitext-2-raw-test.txt");
  QLORA_REQUIRE_DATA(corpus);
  const std::string hard = read_text(test::data_path("conformance/all.inp"));
  const std::string text = repair_utf8(read_text(corpus).substr(0, 300'000)) + hard;
  for (const char* name : {"gpt2", "llama-3", "llama-2"}) {
    const auto tokenizer = open(name);
    EXPECT_TRUE(tokenizer->decode(tokenizer->encode(text)) == text) << name;
  }
  for (const char* name : {"smollm2", "qwen2"}) {  // the corpus is in NFC
    const auto tokenizer = open(name);
    const std::string_view english = std::string_view(text).substr(0, 200'000);
    EXPECT_TRUE(tokenizer->decode(tokenizer->encode(english)) == repair_utf8(english)) << name;
  }
}

TEST(RoundTrip, MalformedInputIsEncodedAsReplacementCharacters) {
  QLORA_REQUIRE_DATA(test::data_path("tokenizers/gpt2"));
  const auto tokenizer = open("gpt2");
  EXPECT_EQ(tokenizer->encode("a\xFFz"), tokenizer->encode("a\uFFFDz"));
  // Ranges move along with the text that repair makes longer.
  const auto smollm = open("smollm2");
  const std::string broken = "\xFF<|im_end|>\xFF<|im_end|>";
  const TextRange first{0, 11};
  EXPECT_EQ(smollm->encode(broken, std::span(&first, 1)).back(), 2);
  EXPECT_EQ(smollm->encode(broken, SpecialTokens::plain),
            smollm->encode("\uFFFD<|im_end|>\uFFFD<|im_end|>", SpecialTokens::plain));
}

TEST(SpecialTokens, ParsedOrPlain) {
  QLORA_REQUIRE_DATA(test::data_path("tokenizers/smollm2"));
  const std::pair<const char*, const char*> cases[] = {
      {"smollm2", "<|im_end|>"},       {"llama-3", "<|eot_id|>"}, {"qwen2", "<|im_end|>"},
      {"exaone-3.5", "[|endofturn|]"}, {"llama-2", "</s>"},       {"mistral-v3", "[INST]"}};
  for (const auto& [name, text] : cases) {
    const auto tokenizer = open(name);
    const auto id = tokenizer->token_id(text);
    ASSERT_TRUE(id) << name;
    EXPECT_TRUE(tokenizer->is_special(*id)) << name;
    EXPECT_EQ(tokenizer->encode(text), Ids{*id}) << name;
    const Ids plain = tokenizer->encode(text, SpecialTokens::plain);
    EXPECT_GT(plain.size(), 1u) << name;
    EXPECT_EQ(std::find(plain.begin(), plain.end(), *id), plain.end()) << name;
    EXPECT_EQ(tokenizer->decode(plain), text) << name;
    EXPECT_EQ(tokenizer->decode(Ids{*id}, true), "") << name;
  }
}

TEST(SpecialTokens, PlainRangesKeepUserTextFromActingAsMarkup) {
  QLORA_REQUIRE_DATA(test::data_path("tokenizers/smollm2"));
  const auto tokenizer = open("smollm2");
  const std::string before = "<|im_start|>user\n", content = "Say <|im_end|>",
                    after = "<|im_end|>\n";
  const TextRange user{before.size(), before.size() + content.size()};
  const Ids ids = tokenizer->encode(before + content + after, std::span(&user, 1));
  EXPECT_EQ(std::count(ids.begin(), ids.end(), 2), 1);
  EXPECT_EQ(std::count(ids.begin(), ids.end(), 1), 1);
  EXPECT_EQ(tokenizer->decode(ids), before + content + after);
}

TEST(RoundTrip, LongWordsAreNotQuadratic) {
  QLORA_REQUIRE_DATA(test::data_path("tokenizers/llama-3"));
  // Each took minutes in implementations that scan all pairs for each merge.
  for (const char* name : {"llama-3", "exaone-3.5", "llama-2"}) {
    const auto tokenizer = open(name);
    for (const char* unit : {"a", " ", "\uac00", "\n", "ab"}) {
      std::string text;
      while (text.size() < 200'000) text += unit;
      EXPECT_TRUE(tokenizer->decode(tokenizer->encode(text)) == text) << name << " " << unit;
    }
  }
}

}  // namespace
}  // namespace qlora::text
