#include "qlora/train/benchmark.h"

#include "clock.h"
#include "gpu_activity.h"
#include "model_shapes.h"
#include "qlora/base/json.h"
#include "qlora/base/random.h"
#include "qlora/models/load.h"
#include "qlora/tensor/device.h"
#include "qlora/train/trainer.h"
#include "qlora/train/training_path.h"

#include <algorithm>
#include <chrono>
#include <optional>

namespace qlora::train {
namespace {

using Clock = std::chrono::steady_clock;

// The first pays for CUPTI's own start, the second is reported.
constexpr std::int64_t kRecordedRounds = 2;

Json shape_config(const TrainBenchmark& options) {
  const ModelShape& shape = model_shape(options.shape);
  return {{"model_type", shape.model_type},
          {"hidden_size", shape.hidden},
          {"intermediate_size", shape.intermediate},
          {"num_hidden_layers", options.layers > 0 ? options.layers : shape.layers},
          {"num_attention_heads", shape.heads},
          {"num_key_value_heads", shape.key_heads},
          {"head_dim", shape.head_dim},
          {"vocab_size", shape.vocabulary},
          {"max_position_embeddings", shape.context},
          {"rope_theta", shape.rope_theta},
          {"rms_norm_eps", 1e-5},
          {"tie_word_embeddings", shape.tied}};
}

// The setting of every comparison with other programs: bf16 on NF4 with nested scales.
std::unique_ptr<models::CausalLM> make_model(const TrainBenchmark& options, c10::Device device) {
  models::LoadOptions load{.dtype = DType::BFloat16,
                           .device = device,
                           .embedding_on_host = options.embedding_offloading};
  load.quantization.load_in_4bit = true;
  load.quantization.bnb_4bit_use_double_quant = true;
  return models::make_random_model(io::model_config_from_json(shape_config(options), options.shape),
                                   load);
}

std::vector<data::Sample> random_samples(const TrainBenchmark& options, std::int64_t vocabulary) {
  const RandomStream stream(1, "benchmark");
  std::vector<data::Sample> samples(static_cast<std::size_t>(options.batch * options.accumulation));
  for (std::size_t i = 0; i < samples.size(); ++i) {
    samples[i].id = static_cast<std::int64_t>(i);
    for (std::int64_t t = 0; t < options.seq; ++t) {
      const std::uint64_t draw = stream.bits(i * static_cast<std::uint64_t>(options.seq) + t);
      samples[i].ids.push_back(static_cast<std::int32_t>(draw % vocabulary));
    }
    samples[i].labels = samples[i].ids;
    samples[i].labels.front() = data::kNotLearned;
  }
  return samples;
}

RunConfig run_config(const TrainBenchmark& options) {
  RunConfig run;
  run.lora = {.r = options.r, .lora_alpha = 2 * options.r, .lora_dropout = options.lora_dropout};
  TrainingConfig& config = run.training;
  config.per_device_train_batch_size = options.batch;
  config.gradient_accumulation_steps = options.accumulation;
  config.max_steps = options.warmup + (options.rounds + kRecordedRounds) * options.steps;
  config.learning_rate = 1e-4;
  config.optim = Optim::Adamw8bit;
  config.bf16 = true;
  config.fused = !options.plain;
  config.deterministic = options.deterministic;
  config.memory_limit = options.memory_limit;
  return run;
}

double gib(std::int64_t bytes) { return static_cast<double>(bytes) / (1 << 30); }

// A trainer's updates, one after the other.
class Updates {
 public:
  Updates(Trainer& trainer, c10::Device device) : trainer_(trainer), device_(device) {}

  // As in training, each is queued while the one before it runs. Waits for the device at the end.
  void run(std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i) trainer_.queue_step(next_++);
    trainer_.settle();
    tensor::synchronize(device_);
  }

 private:
  Trainer& trainer_;
  c10::Device device_;
  std::int64_t next_ = 0;
};

// Seconds of an update in each round, in ascending order.
std::vector<double> time_rounds(Updates& updates, const TrainBenchmark& options) {
  std::vector<double> seconds;
  for (std::int64_t round = 0; round < options.rounds; ++round) {
    const auto start = Clock::now();
    updates.run(options.steps);
    seconds.push_back(seconds_since(start) / static_cast<double>(options.steps));
  }
  std::ranges::sort(seconds);
  return seconds;
}

// Comes last: recording takes memory and time of its own.
void add_activity(Updates& updates, const TrainBenchmark& options, Json& figures) {
  std::optional<GpuActivity> activity;
  for (std::int64_t round = 0; round < kRecordedRounds; ++round) {
    activity = record_gpu_activity([&] { updates.run(options.steps); });
  }
  if (!activity) return;
  const auto per_step = [&](std::int64_t count) {
    return static_cast<double>(count) / static_cast<double>(options.steps);
  };
  figures["gpu_kernels_per_step"] = per_step(activity->kernels);
  figures["host_launches_per_step"] = per_step(activity->host_launches);
  figures["gpu_busy_share"] = activity->busy_seconds / activity->wall_seconds;
}

}  // namespace

std::string benchmark_training(const TrainBenchmark& options) {
  const auto begin = Clock::now();
  const c10::Device device = tensor::choose_device("cuda");
  const auto model = make_model(options, device);
  const RunConfig config = run_config(options);
  const io::AdapterConfig adapter = models::to_adapter_config(config.lora, options.shape);
  models::attach_lora(*model, adapter, config.lora.dtype, 1);
  const data::BatchPlan batches(
      data::SampleStore(random_samples(options, model->config().vocab_size)),
      {.batch_size = options.batch, .shuffle = false});
  const TrainingPath path = choose_training_path(*model, config, batches.largest());
  Trainer trainer(
      {.model = *model, .adapter = adapter, .train = batches, .fused = path.fused.get()},
      config.training);
  Updates updates(trainer, device);
  updates.run(1);
  const double first_step = seconds_since(begin);
  updates.run(options.warmup - 1);
  const std::vector<double> seconds = time_rounds(updates, options);
  const double median = seconds[seconds.size() / 2];
  const auto tokens = static_cast<double>(options.seq * options.batch * options.accumulation);
  Json figures{{"shape", options.shape},
               {"layers", model->config().num_hidden_layers},
               {"seq", options.seq},
               {"batch", options.batch},
               {"accumulation", options.accumulation},
               {"lora_dropout", options.lora_dropout},
               {"fused", path.fused != nullptr},
               {"tokens_per_second", tokens / median},
               {"step_seconds", median},
               {"step_seconds_least", seconds.front()},
               {"step_seconds_most", seconds.back()},
               {"memory_gib", gib(tensor::program_memory(device))},
               {"planned_gib", gib(memory_sum(path.memory))},
               {"seconds_to_first_step", first_step}};
  add_activity(updates, options, figures);
  return figures.dump(2);
}

}  // namespace qlora::train
