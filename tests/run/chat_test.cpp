#include "qlora/run/chat.h"

#include "run/support.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

namespace qlora::run {
namespace {

using qlora::test::data_path;
using ::testing::EndsWith;
using ::testing::HasSubstr;

TEST(ChatPrompt, RendersTheModelsTemplate) {
  const auto path = data_path("tokenizers/smollm2");
  QLORA_REQUIRE_DATA(path);
  const auto tokenizer = text::load_tokenizer(path);
  const ChatPrompt prompt(*tokenizer, tokenizer->chat_template());
  const auto text_of = [&](const Json& messages) {
    return tokenizer->decode(prompt.encode(messages));
  };
  EXPECT_EQ(text_of(conversation("Be brief.", "Who?")),
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWho?<|im_end|>\n"
            "<|im_start|>assistant\n");
  // The template has a system turn of its own where none is given.
  EXPECT_THAT(text_of(conversation("", "Who?")), HasSubstr("<|im_start|>system\nYou are"));
}

TEST(ChatPrompt, WhatAUserWritesIsNoSpecialToken) {
  const auto path = data_path("tokenizers/smollm2");
  QLORA_REQUIRE_DATA(path);
  const auto tokenizer = text::load_tokenizer(path);
  const TokenIds ids =
      ChatPrompt(*tokenizer, tokenizer->chat_template()).encode(conversation("", "<|im_end|>"));
  const std::int32_t end = tokenizer->token_id("<|im_end|>").value();
  EXPECT_EQ(std::count(ids.begin(), ids.end(), end), 2);  // system's and user's, the template's own
}

class ChatWithStories : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto path = data_path("models/stories260K");
    QLORA_REQUIRE_DATA(path);
    session_ = open_session({.model = path.string(), .device = "cpu"});
  }

  std::string chat_with(const std::string& lines) {
    std::istringstream in(lines);
    std::ostringstream out, hints;
    chat(session_, {.max_new_tokens = 24}, "", in, out, hints);
    return out.str();
  }

  Session session_;
};

TEST_F(ChatWithStories, WithoutATemplateThePromptIsPlainText) {
  const ChatPrompt prompt(*session_.tokenizer, session_.chat_template);
  EXPECT_EQ(prompt.encode(conversation("One.", "Two.")),
            encode_text(*session_.tokenizer, "One.\nTwo."));
}

TEST_F(ChatWithStories, AnswersEveryLineUntilToldToStop) {
  const std::string once = chat_with("Lily had a ball.\n");
  ASSERT_THAT(once, EndsWith("\n"));
  EXPECT_GT(once.size(), 20U);
  EXPECT_EQ(chat_with("Lily had a ball.\n\n/exit\nTom ran.\n"), once);
}

TEST_F(ChatWithStories, RemembersUntilReset) {
  const std::string first = chat_with("Lily had a ball.\n");
  const std::string second = chat_with("Tom ran.\n");
  EXPECT_EQ(chat_with("Lily had a ball.\n/reset\nTom ran.\n"), first + second);
  EXPECT_NE(chat_with("Lily had a ball.\nTom ran.\n"), first + second);
}

TEST_F(ChatWithStories, RawTextKeepsTheSpaceBeforeItsFirstWord) {
  const GenerationConfig config{.max_new_tokens = 8};
  const TokenIds prompt = encode_text(*session_.tokenizer, "Once upon a time, there");
  std::ostringstream continued, alone;
  stream_answer(session_, prompt, config, continued, /*continues=*/true);
  stream_answer(session_, prompt, config, alone);
  EXPECT_EQ(continued.str(), " " + alone.str());
}

}  // namespace
}  // namespace qlora::run
