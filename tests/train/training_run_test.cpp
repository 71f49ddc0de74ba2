// What a run is refused for before anything large is loaded, which way it trains, and what memory
// it sets aside.

#include "qlora/train/training_run.h"
#include "qlora/base/file.h"
#include "qlora/base/json.h"
#include "qlora/models/load.h"
#include "qlora/train/memory_estimate.h"
#include "qlora/train/training_path.h"
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

TEST(TrainingPath, SaysWhyThePlainOneTrainsAndWhatHasNoEffectOnIt) {
  const auto model = models::load(test::golden_path("tiny/llama2"), {});
  const auto said = [&](const RunConfig& run) {
    testing::internal::CaptureStderr();
    EXPECT_EQ(choose_training_path(*model, run, {.rows = 1, .length = 8}).fused, nullptr);
    return testing::internal::GetCapturedStderr();
  };
  RunConfig run;
  EXPECT_EQ(said(run), "the plain path trains: the model is not on a GPU\n");
  run.training.neftune_noise_alpha = 5;
  EXPECT_EQ(said(run), "the plain path trains: training.neftune_noise_alpha is set\n");
  run.data.weight_column = "weight";
  EXPECT_EQ(said(run), "the plain path trains: data.weight_column is set\n");
  run.training.fused = false;
  run.training.deterministic = true;
  run.training.memory_limit = 8;
  run.training.activation_offloading = true;
  EXPECT_EQ(said(run),
            "the plain path trains: training.fused is false\n"
            "training.deterministic has no effect on it\n"
            "training.memory_limit has no effect on it\n"
            "training.activation_offloading has no effect on it\n");
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
