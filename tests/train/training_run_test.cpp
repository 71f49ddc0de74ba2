// What a run is refused for before anything large is loaded, and what it sets aside.

#include "qlora/train/training_run.h"
#include "qlora/base/file.h"
#include "qlora/base/json.h"
#include "qlora/train/memory_estimate.h"
#include "support/message.h"
#include "support/test_data.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace qlora::train {
namespace {

TEST(TrainingRun, RefusesRowsBeyondTheSlidingWindow) {
  const auto folder = test::fresh_folder("window");
  Json config = read_json(test::golden_path("tiny/mistral/config.json"));
  config["sliding_window"] = 8;
  write_text(folder / "config.json", config.dump());
  RunConfig run;
  run.model.path = folder.string();
  run.data.max_length = 9;
  EXPECT_THAT(test::message_of([&] { TrainingRun(run, c10::kCPU); }),
              testing::HasSubstr("data.max_length: 9 tokens"));
  EXPECT_THAT(test::message_of([&] { TrainingRun(run, c10::kCPU); }),
              testing::HasSubstr("knows 8 positions"));
}

TEST(MemoryEstimate, CountsABatchOfTheEvaluation) {
  io::ModelConfig model;
  model.hidden_size = 4;
  model.intermediate_size = 16;
  model.num_attention_heads = 2;
  model.num_key_value_heads = 1;
  model.head_dim = 2;
  model.vocab_size = 100;
  EXPECT_EQ(evaluation_bytes(model, {}, DType::BFloat16), 0);
  // 6 tokens · (3 · 4 + 4 · 16) and a weight of 4 · 16, 2 bytes each; 6 rows of logits
  EXPECT_EQ(evaluation_bytes(model, {.rows = 2, .length = 3}, DType::BFloat16),
            (6 * 76 + 64) * 2 + 6 * 100 * 6);
}

}  // namespace
}  // namespace qlora::train
