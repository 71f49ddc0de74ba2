#include "qlora/run/generate.h"

#include "qlora/base/json.h"
#include "qlora/run/chat.h"
#include "qlora/run/session.h"
#include "run/support.h"
#include "support/message.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/tensor.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

namespace qlora::run {
namespace {

using qlora::test::data_path;
using qlora::test::message_of;
using ::testing::HasSubstr;

struct Stories {
  Json golden;
  Session session;
};

Stories open_stories(const std::filesystem::path& path) {
  return {read_json(path / "golden.json"), open_session({.model = path.string(), .device = "cpu"})};
}

TEST(Generate, TellsTheKnownStory) {
  const auto path = data_path("models/stories260K");
  QLORA_REQUIRE_DATA(path);
  const Stories stories = open_stories(path);
  TokenIds expected = stories.golden.at("greedy_ids").get<TokenIds>();
  const TokenIds prompt = encode_text(*stories.session.tokenizer, "");
  ASSERT_EQ(prompt, TokenIds{expected.front()});
  expected.erase(expected.begin());
  GenerationConfig config;
  config.max_new_tokens = static_cast<std::int64_t>(expected.size());
  const auto answers =
      generate(*stories.session.model, {{prompt, 0}}, config, stories.session.stop_ids);
  EXPECT_EQ(answers.at(0).ids, expected);

  std::ostringstream out;
  const std::string text = stream_answer(stories.session, prompt, config, out);
  EXPECT_EQ(text, out.str());
  EXPECT_EQ(out.str(), stories.golden.at("greedy_text").get<std::string>());
}

TEST(Generate, ComputesTheKnownLogits) {
  const auto path = data_path("models/stories260K");
  QLORA_REQUIRE_DATA(path);
  const Stories stories = open_stories(path);
  const auto values = stories.golden.at("logits_after_bos").get<std::vector<double>>();
  const at::Tensor logits = test::logits_of(*stories.session.model, 1).flatten().to(at::kDouble);
  // The golden is float64; float32 through five layers keeps six digits.
  EXPECT_LT(test::relative_difference(logits, at::tensor(values, at::kDouble)), 1e-5);
}

// Token by token with the whole text in every forward pass.
TokenIds greedy_without_cache(models::CausalLM& model, TokenIds ids, std::size_t count) {
  const at::NoGradGuard no_grad;
  const nn::ForwardContext context;
  const std::size_t start = ids.size();
  while (ids.size() < start + count) {
    const at::Tensor input = at::tensor(ids, at::kLong).unsqueeze(0);
    const at::Tensor logits = model.logits(model.hidden_states(input, context), context);
    ids.push_back(logits.select(1, -1).argmax(-1).item<std::int32_t>());
  }
  return {ids.begin() + static_cast<std::ptrdiff_t>(start), ids.end()};
}

const std::vector<Prompt> kPrompts = {
    {{5, 6, 7}, 0}, {{9}, 1}, {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, 2}, {{90, 2, 40, 3, 8}, 3}};

TEST(Generate, CacheChangesNothing) {
  const auto model = test::load(test::tiny("llama3"));
  for (const Prompt& prompt : kPrompts) {
    const auto answers = generate(*model, {prompt}, {.max_new_tokens = 20}, {});
    EXPECT_EQ(answers.at(0).ids, greedy_without_cache(*model, prompt.ids, 20));
  }
}

TEST(Generate, RowsOfABatchAnswerAsIfAlone) {
  const auto model = test::load(test::tiny("qwen3"));
  for (const double temperature : {0.0, 1.0}) {
    const GenerationConfig config{.max_new_tokens = 17, .temperature = temperature, .top_p = 0.9};
    const auto together = generate(*model, kPrompts, config, {});
    for (std::size_t i = 0; i < kPrompts.size(); ++i) {
      const auto alone = generate(*model, {kPrompts[i]}, config, {});
      EXPECT_EQ(together.at(i).ids, alone.at(0).ids) << "row " << i << " at " << temperature;
      EXPECT_EQ(together.at(i).ids.size(), 17U);
    }
  }
}

TEST(Generate, SeedNamesTheDraws) {
  const auto model = test::load(test::tiny("llama2"));
  const auto answer = [&](std::int64_t seed) {
    return generate(*model, {kPrompts[0]}, {.max_new_tokens = 30, .temperature = 2, .seed = seed},
                    {})
        .at(0)
        .ids;
  };
  EXPECT_EQ(answer(1), answer(1));
  EXPECT_NE(answer(1), answer(2));
}

TEST(Generate, EndsAtAStopTokenWithoutIt) {
  const auto model = test::load(test::tiny("llama3"));
  const GenerationConfig config{.max_new_tokens = 12};
  const auto free = generate(*model, kPrompts, config, {});
  const std::int32_t stop = free[0].ids.at(3);
  std::vector<TokenIds> told(kPrompts.size());
  const auto stopped =
      generate(*model, kPrompts, config, {stop},
               [&](std::size_t row, std::int32_t id) { told.at(row).push_back(id); });
  for (std::size_t i = 0; i < kPrompts.size(); ++i) {
    const auto end = std::find(free[i].ids.begin(), free[i].ids.end(), stop);
    EXPECT_EQ(stopped[i].ids, TokenIds(free[i].ids.begin(), end));
    EXPECT_EQ(stopped[i].stopped, end != free[i].ids.end());
    EXPECT_EQ(told[i], stopped[i].ids);
  }
  EXPECT_TRUE(stopped[0].stopped);
}

TEST(Generate, EndsWithTheContext) {
  const auto model = test::load(test::tiny("llama2"));
  const std::int64_t limit = model->config().max_position_embeddings;
  const TokenIds nearly_full(static_cast<std::size_t>(limit - 2), 4);
  const auto answers =
      generate(*model, {{nearly_full, 0}, {{7, 8}, 1}}, {.max_new_tokens = 1 << 20}, {});
  EXPECT_EQ(answers[0].ids.size(), 2U);
  EXPECT_FALSE(answers[0].stopped);
  EXPECT_EQ(answers[1].ids.size(), static_cast<std::size_t>(limit - 2));
}

TEST(Generate, RefusesWhatItCannotAnswer) {
  const auto model = test::load(test::tiny("llama2"));
  const auto error = [&](TokenIds ids) {
    return message_of([&] { generate(*model, {{std::move(ids), 0}}, {}, {}); });
  };
  EXPECT_THAT(error({}), HasSubstr("empty"));
  EXPECT_THAT(error({3, 96}), HasSubstr("the id 96"));
  EXPECT_THAT(error(TokenIds(512, 1)), HasSubstr("the prompt has 512 tokens"));
  EXPECT_TRUE(generate(*model, {}, {}, {}).empty());
}

}  // namespace
}  // namespace qlora::run
