// The loop on a tiny model: exact resume, and a loss that does not know how a batch was cut.

#include "qlora/train/trainer.h"

#include "qlora/base/error.h"
#include "qlora/base/file.h"
#include "qlora/base/random.h"
#include "qlora/models/load.h"
#include "qlora/train/evaluate.h"
#include "qlora/train/interrupt.h"
#include "support/gpu.h"
#include "support/tensor_golden.h"

#include <chrono>
#include <csignal>

namespace qlora::train {
namespace {

namespace fs = std::filesystem;

// 12 samples of 4 to 15 tokens; the first third of each is a prompt.
std::vector<data::Sample> samples() {
  std::vector<data::Sample> result;
  const RandomStream stream(3, "samples");
  for (std::int64_t i = 0; i < 12; ++i) {
    data::Sample sample;
    sample.id = i;
    const auto length = static_cast<std::size_t>(4 + i);
    for (std::size_t t = 0; t < length; ++t) {
      sample.ids.push_back(
          static_cast<std::int32_t>(stream.bits(100 * static_cast<std::uint64_t>(i) + t) % 64));
      sample.labels.push_back(t < length / 3 + 1 ? data::kNotLearned : sample.ids.back());
    }
    result.push_back(std::move(sample));
  }
  return result;
}

struct TinyRun {
  std::unique_ptr<models::CausalLM> model;
  data::BatchPlan plan;
  std::unique_ptr<Trainer> trainer;

  std::vector<tensor::Parameter> parameters() const { return models::trainable_parameters(*model); }
};

TrainingConfig settings(const fs::path& output) {
  TrainingConfig config;
  config.output_dir = output;
  config.per_device_train_batch_size = 2;
  config.gradient_accumulation_steps = 2;
  config.learning_rate = 1e-2;
  config.max_steps = 8;
  config.save_strategy = IntervalStrategy::Steps;
  config.save_steps = 3;
  config.optim = Optim::PagedAdamw8bit;
  config.logging_steps = 1;
  return config;
}

TinyRun make_run(const TrainingConfig& config, c10::Device device = c10::kCPU,
                 std::int64_t pack_length = 0,
                 const std::vector<data::Sample>& learned = samples()) {
  tensor::QuantizationConfig quantization;
  quantization.load_in_4bit = true;
  quantization.bnb_4bit_use_double_quant = true;
  auto model = models::load(
      test::golden_path("tiny/llama2"),
      {.quantization = quantization, .dtype = config.activation_dtype(), .device = device});
  nn::LoraConfig lora;
  lora.r = 128;  // large enough for 8-bit state
  lora.lora_dropout = 0.1;
  const auto adapter = models::to_adapter_config(lora, "tiny");
  models::attach_lora(*model, adapter, DType::Float32, 42);
  TinyRun run{
      std::move(model),
      data::BatchPlan(data::SampleStore(learned), {.batch_size = config.per_device_train_batch_size,
                                                   .pack_length = pack_length}),
      nullptr};
  run.trainer = std::make_unique<Trainer>(TrainerParts{.model = *run.model,
                                                       .adapter = adapter,
                                                       .train = run.plan,
                                                       .validation = nullptr,
                                                       .loss_scaling = config.fp16,
                                                       .write_companions = {}},
                                          config);
  return run;
}

// A figure of each line of a run's metrics.
std::vector<double> metrics_of(const fs::path& output, const char* name) {
  std::vector<double> figures;
  std::istringstream lines(read_text(output / "metrics.jsonl"));
  for (std::string line; std::getline(lines, line);) {
    figures.push_back(parse_json(line, "metrics").at(name).get<double>());
  }
  return figures;
}

std::vector<double> losses_of(const fs::path& output) { return metrics_of(output, "loss"); }

// Without workers it is the time that making the batches takes; each line has its own share.
TEST(Trainer, TellsHowLongItWaitedForBatches) {
  TrainingConfig config = settings(test::fresh_folder("waits"));
  config.dataloader_num_workers = 0;
  const auto start = std::chrono::steady_clock::now();
  ASSERT_TRUE(make_run(config).trainer->run());
  const std::chrono::duration<double> whole = std::chrono::steady_clock::now() - start;
  double sum = 0;
  for (const double seconds : metrics_of(config.output_dir, "data_wait_seconds")) {
    EXPECT_GT(seconds, 0);
    sum += seconds;
  }
  EXPECT_LT(sum, whole.count() / 2);
}

TEST(Trainer, ResumeEqualsNoStopBitForBit) {
  const fs::path whole = test::fresh_folder("whole");
  const TinyRun first = make_run(settings(whole));
  ASSERT_TRUE(first.trainer->run());

  const fs::path cut = test::fresh_folder("cut");
  TrainingConfig config = settings(cut);
  make_run(config).trainer->run();
  // The run goes back to step 3 in a new process's worth of objects.
  const TinyRun second = make_run(config);
  second.trainer->resume(cut / "checkpoint-3");
  ASSERT_TRUE(second.trainer->run());

  EXPECT_EQ(losses_of(whole).size(), 8u);
  EXPECT_EQ(losses_of(whole), losses_of(cut));
  const auto a = first.parameters();
  const auto b = second.parameters();
  for (std::size_t i = 0; i < a.size(); ++i) {
    EXPECT_TRUE(at::equal(a[i].value, b[i].value)) << a[i].name;
  }
}

// What one update of fresh objects makes of the parameters, by name.
std::map<std::string, at::Tensor> first_update(
    std::int64_t batch, std::int64_t accumulation, bool recompute, std::int64_t pack_length = 0,
    c10::Device device = c10::kCPU, const std::vector<data::Sample>& learned = samples()) {
  TrainingConfig config = settings(test::fresh_folder("update"));
  config.per_device_train_batch_size = batch;
  config.gradient_accumulation_steps = accumulation;
  config.gradient_checkpointing = recompute;
  config.optim = Optim::AdamwTorch;
  config.adam_epsilon = 1;  // makes the update nearly proportional to the gradient
  config.neftune_noise_alpha = 5;
  const TinyRun run = make_run(config, device, pack_length, learned);
  const double loss = run.trainer->train_step(0).loss;
  std::map<std::string, at::Tensor> result{{"loss", at::tensor(loss, at::kDouble)}};
  for (const auto& p : run.parameters()) result.emplace(p.name, p.value.detach());
  return result;
}

TEST(Trainer, MicroBatchesEqualOneBatchWithDropoutAndNoiseToo) {
  const auto one = first_update(4, 1, false);
  for (const auto& [batch, accumulation] : {std::pair{2, 2}, {1, 4}}) {
    for (const auto& [name, value] : first_update(batch, accumulation, false)) {
      // Sums of a few hundred float32 terms in another order.
      EXPECT_LT(test::scaled_error(value, one.at(name)), 1e-6) << name << " " << batch;
    }
  }
}

// One update over the whole epoch: 12 samples, or the rows of 32 tokens that they are packed into.
void expect_packing_changes_nothing(c10::Device device, double tolerance) {
  const auto apart = first_update(4, 12, false, 0, device);
  for (const std::int64_t batch : {1, 3}) {
    for (const bool recompute : {false, true}) {
      for (const auto& [name, value] : first_update(batch, 12, recompute, 32, device)) {
        EXPECT_LT(test::scaled_error(value, apart.at(name)), tolerance) << name << " " << batch;
      }
    }
  }
}

TEST(Trainer, PackedRowsEqualSamplesApartWithDropoutAndNoiseToo) {
  // Sums of a few hundred float32 terms in another order.
  expect_packing_changes_nothing(c10::kCPU, 1e-6);
}

TEST(GpuTrainer, PackedRowsEqualSamplesApart) {
  QLORA_REQUIRE_GPU();
  // The same sums, by products that choose their order by shape.
  expect_packing_changes_nothing(test::kGpu, 1e-5);
}

// The copies share an id, so that they share their dropout and noise with the one that weighs more.
TEST(Trainer, AWeightOfTwoIsTheSampleTwice) {
  std::vector<data::Sample> weighted = samples(), twice = samples();
  weighted[5].weight = 2;
  twice.push_back(twice[5]);
  for (const std::int64_t pack_length : {0, 32}) {
    const auto expected = first_update(4, 16, false, pack_length, c10::kCPU, twice);
    for (const auto& [name, value] : first_update(4, 16, false, pack_length, c10::kCPU, weighted)) {
      EXPECT_LT(test::scaled_error(value, expected.at(name)), 1e-6) << name << " " << pack_length;
    }
  }
}

TEST(Trainer, NoiseChangesTheLossButNotTheEvaluation) {
  TrainingConfig config = settings(test::fresh_folder("noise"));
  const TinyRun quiet = make_run(config);
  config.neftune_noise_alpha = 5;
  const TinyRun noisy = make_run(config);
  EXPECT_EQ(evaluate(*quiet.model, quiet.plan).loss, evaluate(*noisy.model, noisy.plan).loss);
  EXPECT_NE(quiet.trainer->train_step(0).loss, noisy.trainer->train_step(0).loss);
}

TEST(Trainer, RecomputingChangesNoBit) {
  const auto kept = first_update(4, 1, false);
  for (const auto& [name, value] : first_update(4, 1, true)) {
    EXPECT_TRUE(at::equal(value, kept.at(name))) << name;
  }
}

TEST(Trainer, LossFallsInEveryActivationType) {
  for (const char* type : {"float32", "bf16", "fp16"}) {
    const fs::path output = test::fresh_folder(type);
    TrainingConfig config = settings(output);
    config.bf16 = std::string(type) == "bf16";
    config.fp16 = std::string(type) == "fp16";
    config.max_steps = 30;
    config.lr_scheduler_type = optim::LrSchedulerType::Constant;
    ASSERT_TRUE(make_run(config).trainer->run());
    const auto losses = losses_of(output);
    EXPECT_LT(losses.back(), 0.8 * losses.front()) << type;
  }
}

TEST(Trainer, DivergenceStopsWithoutTouchingTheAdapter) {
  const TinyRun run = make_run(settings(test::fresh_folder("diverged")));
  auto parameters = run.parameters();
  {
    const at::NoGradGuard no_grad;
    parameters[0].value.fill_(std::numeric_limits<float>::infinity());
  }
  const at::Tensor before = parameters[2].value.detach().clone();
  EXPECT_THROW(run.trainer->train_step(0), Error);
  EXPECT_TRUE(at::equal(parameters[2].value.detach(), before));
}

TEST(Trainer, DamagedCheckpointIsRefused) {
  const fs::path output = test::fresh_folder("damaged");
  make_run(settings(output)).trainer->run();
  const fs::path file = output / "checkpoint-3" / "optimizer.safetensors";
  fs::resize_file(file, fs::file_size(file) - 1);
  const TinyRun run = make_run(settings(output));
  EXPECT_THROW(run.trainer->resume(output / "checkpoint-3"), Error);
}

// The handler remembers for the rest of the process, and LibTorch's threads do not survive a fork:
// the run happens in a process of its own, which says by its exit code what it left.
TEST(Trainer, InterruptSavesAndLeaves) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(
      {
        const fs::path output = test::fresh_folder("interrupted");
        TrainingConfig config = settings(output);
        config.save_strategy = IntervalStrategy::No;
        const TinyRun run = make_run(config);
        watch_interrupts();
        std::raise(SIGINT);
        const bool finished = run.trainer->run();
        const bool saved = fs::exists(output / "checkpoint-1" / "trainer_state.json");
        std::exit(!finished && saved ? 3 : 4);
      },
      testing::ExitedWithCode(3), "continue with --resume");
}

// Dropout masks, order and arithmetic of the update are the CPU's; only matrix products differ.
TEST(GpuTrainer, FollowsTheCpuAndItselfAfterAResume) {
  QLORA_REQUIRE_GPU();
  const fs::path on_cpu = test::fresh_folder("on_cpu");
  const fs::path on_gpu = test::fresh_folder("on_gpu");
  ASSERT_TRUE(make_run(settings(on_cpu)).trainer->run());
  ASSERT_TRUE(make_run(settings(on_gpu), test::kGpu).trainer->run());
  const auto expected = losses_of(on_cpu);
  const auto found = losses_of(on_gpu);
  ASSERT_EQ(found.size(), expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) EXPECT_NEAR(found[i], expected[i], 1e-3) << i;

  const TinyRun resumed = make_run(settings(on_gpu), test::kGpu);
  resumed.trainer->resume(on_gpu / "checkpoint-3");
  ASSERT_TRUE(resumed.trainer->run());
  const auto again = losses_of(on_gpu);
  for (std::size_t i = 0; i < found.size(); ++i) EXPECT_NEAR(again[i], found[i], 1e-5) << i;
}

TEST(GpuTrainer, LossFallsInSixteenBit) {
  QLORA_REQUIRE_GPU();
  for (const bool half : {false, true}) {
    const fs::path output = test::fresh_folder("sixteen");
    TrainingConfig config = settings(output);
    config.fp16 = half;
    config.bf16 = !half;
    config.gradient_checkpointing = true;
    config.max_steps = 30;
    config.lr_scheduler_type = optim::LrSchedulerType::Constant;
    ASSERT_TRUE(make_run(config, test::kGpu).trainer->run());
    const auto losses = losses_of(output);
    EXPECT_LT(losses.back(), 0.8 * losses.front());
  }
}

TEST(Evaluate, WeighsByToken) {
  const TinyRun run = make_run(settings(test::fresh_folder("evaluate")));
  const EvaluationResult result = evaluate(*run.model, run.plan);
  const data::BatchPlan single(data::SampleStore(samples()), {.batch_size = 1, .shuffle = false});
  const EvaluationResult one_by_one = evaluate(*run.model, single);
  EXPECT_EQ(result.labels, one_by_one.labels);
  EXPECT_NEAR(result.loss / one_by_one.loss, 1.0, 1e-6);
  EXPECT_NEAR(result.perplexity, std::exp(result.loss), 1e-9);
}

}  // namespace
}  // namespace qlora::train
