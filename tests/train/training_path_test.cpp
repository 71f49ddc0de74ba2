// Which path a run takes, and whole runs by the fused one, from the configuration to the saved
// adapter.

#include "qlora/train/training_path.h"

#include "qlora/base/file.h"
#include "qlora/base/json.h"
#include "qlora/models/load.h"
#include "qlora/train/training_run.h"
#include "support/gpu.h"

#include <gmock/gmock.h>

#include <functional>
#include <sstream>

namespace qlora::train {
namespace {

namespace fs = std::filesystem;

fs::path stories_model() { return test::data_path("models/stories260K"); }

// Stories of one to four sentences, a line each.
fs::path write_stories(const std::string& name, int count) {
  constexpr const char* kNames[] = {"Lily", "Tom", "Sue", "Max", "Anna"};
  constexpr const char* kThings[] = {"ball", "cat", "boat", "tree", "red car", "big dog", "cake"};
  std::string text;
  for (int i = 0; i < count; ++i) {
    const char* who = kNames[i % std::ssize(kNames)];
    const char* what = kThings[i % std::ssize(kThings)];
    text += fmt::format("Once upon a time, there was a {}.", what);
    if (i % 4 > 0) text += fmt::format(" {} saw the {} and was very happy.", who, what);
    if (i % 4 > 1) text += fmt::format(" {} liked to play with the {} in the park.", who, what);
    if (i % 4 > 2) text += " They played all day.";
    text += "\n";
  }
  const fs::path path = test::fresh_folder(name) / "stories.txt";
  write_text(path, text);
  return path;
}

// Updates that begin and end within epochs, on packed rows, with state in 8 and in 32 bits.
RunConfig run_settings(const std::string& output) {
  RunConfig config;
  config.model.path = stories_model().string();
  config.quantization.load_in_4bit = true;
  config.quantization.bnb_4bit_use_double_quant = true;
  config.lora.r = 64;
  config.lora.lora_dropout = 0.1;
  config.data.train = {{.path = write_stories("train_stories", 30).string()}};
  config.data.max_length = 120;
  config.data.packing = true;
  config.data.cache_dir = "";
  config.training.output_dir = test::fresh_folder(output).string();
  config.training.per_device_train_batch_size = 2;
  config.training.gradient_accumulation_steps = 2;
  config.training.learning_rate = 1e-2;
  config.training.lr_scheduler_type = optim::LrSchedulerType::Constant;
  config.training.max_steps = 8;
  config.training.logging_steps = 1;
  config.training.save_strategy = IntervalStrategy::No;
  config.training.optim = Optim::PagedAdamw8bit;
  config.training.bf16 = true;
  config.training.deterministic = true;
  return config;
}

struct Trained {
  std::vector<double> losses, gradient_norms, evaluations;
  std::string adapter;  // bytes of its weights
};

// The lines of a run's metrics and what it saved.
Trained read_run(const fs::path& output) {
  Trained result{.adapter = read_text(output / "adapter" / "adapter_model.safetensors")};
  std::istringstream lines(read_text(output / "metrics.jsonl"));
  for (std::string line; std::getline(lines, line);) {
    const Json figures = parse_json(line, "metrics");
    if (figures.contains("eval_loss")) {
      result.evaluations.push_back(figures.at("eval_loss").get<double>());
    } else {
      result.losses.push_back(figures.at("loss").get<double>());
      result.gradient_norms.push_back(figures.at("grad_norm").get<double>());
    }
  }
  return result;
}

// What it says on standard error.
std::string output_of(const std::function<void()>& work) {
  testing::internal::CaptureStderr();
  try {
    work();
  } catch (...) {
    testing::internal::GetCapturedStderr();
    throw;
  }
  return testing::internal::GetCapturedStderr();
}

// A run by the fused path with objects of its own, from the checkpoint if there is one.
Trained train(const RunConfig& config, const fs::path& checkpoint = {}) {
  const std::string output = output_of([&] {
    TrainingRun run(config, test::kGpu);
    Trainer trainer = run.make_trainer();
    if (!checkpoint.empty()) trainer.resume(checkpoint);
    EXPECT_TRUE(trainer.run());
  });
  EXPECT_THAT(output, testing::HasSubstr("the fused path trains: 5 layers keep everything"));
  return read_run(config.training.output_dir);
}

void expect_equal_runs(const Trained& a, const Trained& b) {
  EXPECT_EQ(a.losses, b.losses);
  EXPECT_EQ(a.gradient_norms, b.gradient_norms);
  EXPECT_TRUE(a.adapter == b.adapter) << "the adapters differ";
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

TEST(GpuTrainingPath, TheFusedOneStartsAsTheCpuAndLearns) {
  QLORA_REQUIRE_GPU();
  QLORA_REQUIRE_DATA(stories_model());
  RunConfig config = run_settings("on_cpu");
  ASSERT_TRUE(config.training.fused) << "the default";
  config.training.bf16 = false;
  TrainingRun on_cpu(config, c10::kCPU);
  const StepResult exact = on_cpu.make_trainer().train_step(0);
  config.training.bf16 = true;
  config.training.max_steps = 12;
  for (const bool deterministic : {false, true}) {
    config.training.deterministic = deterministic;
    config.training.output_dir = test::fresh_folder("fused").string();
    const Trained found = train(config);
    // The plain path on the CPU in bfloat16 is 1.8e-3 and 1e-3 away from float32.
    EXPECT_NEAR(found.losses.at(0) / exact.loss, 1, 5e-3);
    EXPECT_NEAR(found.gradient_norms.at(0) / exact.gradient_norm, 1, 0.02);
    EXPECT_LT(found.losses.back(), 0.5 * found.losses.front());
  }
}

TEST(GpuTrainingPath, ThePlainOneIsTakenWhereTheFusedOneIsOff) {
  QLORA_REQUIRE_GPU();
  QLORA_REQUIRE_DATA(stories_model());
  RunConfig config = run_settings("plain");
  config.training.fused = false;
  EXPECT_THAT(output_of([&] { TrainingRun(config, test::kGpu); }),
              testing::HasSubstr("the plain path trains: training.fused is false"));
  config.training.fused = true;
  config.training.bf16 = false;
  EXPECT_THAT(output_of([&] { TrainingRun(config, test::kGpu); }),
              testing::HasSubstr("the plain path trains: training.bf16 is not set"));
}

TEST(GpuTrainingPath, AnEvaluationChangesNoBit) {
  QLORA_REQUIRE_GPU();
  QLORA_REQUIRE_DATA(stories_model());
  RunConfig config = run_settings("without");
  config.data.validation = {{.path = write_stories("other_stories", 7).string()}};
  const Trained without = train(config);
  EXPECT_EQ(without.losses.size(), 8u);
  EXPECT_TRUE(without.evaluations.empty());

  config.training.output_dir = test::fresh_folder("with").string();
  config.training.eval_strategy = IntervalStrategy::Steps;
  config.training.eval_steps = 1;
  const Trained with = train(config);
  EXPECT_EQ(with.evaluations.size(), 8u);
  EXPECT_LT(with.evaluations.back(), with.evaluations.front());
  expect_equal_runs(with, without);
}

TEST(GpuTrainingPath, ResumeEqualsNoStopBitForBit) {
  QLORA_REQUIRE_GPU();
  QLORA_REQUIRE_DATA(stories_model());
  RunConfig config = run_settings("whole");
  config.training.save_strategy = IntervalStrategy::Steps;
  config.training.save_steps = 4;
  const fs::path output = config.training.output_dir;
  Trained whole = train(config);
  config.training.output_dir = test::fresh_folder("rest").string();
  const Trained rest = train(config, output / "checkpoint-4");
  EXPECT_EQ(rest.losses.size(), 4u);
  for (auto* figures : {&whole.losses, &whole.gradient_norms}) {
    figures->erase(figures->begin(), figures->begin() + 4);
  }
  expect_equal_runs(rest, whole);
}

}  // namespace
}  // namespace qlora::train
