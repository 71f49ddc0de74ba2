#include "qlora/run/questions.h"

#include "qlora/base/file.h"
#include "run/support.h"
#include "support/message.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace qlora::run {
namespace {

using qlora::test::data_path;
using qlora::test::message_of;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<Question> questions_from(const std::string& text, const std::string& system = "") {
  const auto path = test::fresh_folder("questions") / "questions.jsonl";
  write_text(path, text);
  return read_questions(path, system);
}

TEST(Questions, ReadsBothFormats) {
  const std::string turns = R"({"role": "user", "content": "a"}, )"
                            R"({"role": "assistant", "content": "b"}, )"
                            R"({"role": "user", "content": "c"}, )"
                            R"({"role": "assistant", "content": "d"})";
  const auto questions = questions_from(R"({"instruction": "Who?", "input": "", "output": "x"}
{"instruction": "Add.", "input": "1 2", "keywords": ["3"]}

{"messages": [)" + turns + "]}\n");
  ASSERT_EQ(questions.size(), 3U);
  EXPECT_EQ(questions[0].text(), "Who?");
  EXPECT_TRUE(questions[0].keywords.empty());
  EXPECT_EQ(questions[1].text(), "Add.\n\n1 2");
  EXPECT_THAT(questions[1].keywords, ElementsAre("3"));
  EXPECT_EQ(questions[2].text(), "c");
  EXPECT_EQ(questions[2].messages.size(), 3U);
}

TEST(Questions, SystemGoesBeforeConversationsThatHaveNone) {
  const auto questions = questions_from(
      R"({"instruction": "Who?"}
{"messages": [{"role": "user", "content": "a"}]}
{"messages": [{"role": "system", "content": "own"}, {"role": "user", "content": "a"}]})",
      "Be brief.");
  for (std::size_t i = 0; i < 3; ++i) {
    ASSERT_EQ(questions[i].messages.size(), 2U);
    EXPECT_EQ(questions[i].messages[0].at("content"), i == 2 ? "own" : "Be brief.");
  }
}

TEST(Questions, ErrorsNameFileLineAndColumns) {
  const auto error = [](const std::string& text) {
    return message_of([&] { questions_from(text); });
  };
  EXPECT_THAT(error("{\"instruction\": \"a\"}\n{\"q\": 1, \"a\": 2}"),
              HasSubstr("questions.jsonl:2: expected a column 'messages' or 'instruction'; the row "
                        "has q, a"));
  EXPECT_THAT(error("{\"instruction\""), HasSubstr("questions.jsonl:1"));
  EXPECT_THAT(error("[1]"), HasSubstr("expected an object"));
  EXPECT_THAT(error("{\"instruction\": 5}"), HasSubstr("instruction"));
  EXPECT_THAT(error("{\"messages\": [{\"role\": \"user\"}]}"), HasSubstr("content"));
  EXPECT_THAT(error("{\"messages\": [{\"role\": \"assistant\", \"content\": \"x\"}]}"),
              HasSubstr("no turn of the user"));
  EXPECT_THAT(error("{\"messages\": \"x\"}"), HasSubstr("no list"));
  EXPECT_THAT(error("{\"instruction\": \"a\", \"keywords\": \"a\"}"), HasSubstr("keywords"));
  EXPECT_THAT(error("\n"), HasSubstr("holds no questions"));
}

TEST(Questions, KeywordsCompareWithoutAsciiCase) {
  EXPECT_TRUE(holds_all("It was ODALYS wren, in 1964.", {"Odalys Wren", "1964"}));
  EXPECT_FALSE(holds_all("It was Odalys.", {"Odalys Wren"}));
  EXPECT_FALSE(holds_all("It was Odalys Wren.", {"Odalys Wren", "1964"}));
  EXPECT_TRUE(holds_all("누벼울의 창업자는 강새온 씨입니다.", {"강새온"}));
  EXPECT_FALSE(holds_all("강 새온", {"강새온"}));
}

TEST(Questions, EveryQuestionGetsItsOwnAnswer) {
  const auto path = data_path("models/stories260K");
  QLORA_REQUIRE_DATA(path);
  const Session session = open_session({.model = path.string(), .device = "cpu"});
  const auto questions = questions_from(
      R"({"instruction": "Lily had a big red ball and she went to the park.", "keywords": ["the"]}
{"instruction": "Tom ran.", "keywords": ["xylophone"]}
{"instruction": "One day, a cat"})");
  const GenerationConfig config{.max_new_tokens = 20};
  const Answers answers = answer_questions(session, questions, config, /*batch_size=*/2);
  ASSERT_EQ(answers.texts.size(), 3U);
  for (std::size_t i = 0; i < 3; ++i) {
    const auto alone = answer_questions(session, {questions[i]}, config, 1);
    EXPECT_EQ(answers.texts[i], alone.texts.at(0));
  }
  EXPECT_EQ(answers.counted, 2);
  EXPECT_EQ(answers.right, holds_all(answers.texts[0], {"the"}) ? 1 : 0);
}

}  // namespace
}  // namespace qlora::run
