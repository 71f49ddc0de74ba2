#include "qlora/train/training_run.h"

#include "qlora/base/file.h"
#include "qlora/base/log.h"
#include "qlora/base/text_util.h"
#include "qlora/data/preview.h"
#include "qlora/models/load.h"
#include "qlora/run/training_base.h"
#include "qlora/text/chat_template.h"
#include "qlora/train/memory_estimate.h"
#include "qlora/train/training_path.h"

#include <utility>

namespace qlora::train {
namespace fs = std::filesystem;
namespace {

void expect_fitting_context(const RunConfig& config, const io::ModelConfig& model) {
  if (config.data.max_length <= model.context_limit()) return;
  fail("data.max_length: {} tokens, but {} knows {} positions; lower it", config.data.max_length,
       config.model.path, model.context_limit());
}

void expect_fitting_tokenizer(const text::Tokenizer& tokenizer, const io::ModelConfig& model,
                              const std::string& path) {
  if (tokenizer.vocab_size() <= model.vocab_size) return;
  fail("{}: the tokenizer has {} tokens, the model {}; they do not belong together", path,
       tokenizer.vocab_size(), model.vocab_size);
}

void expect_one_arrangement(const RunConfig& config) {
  if (!config.data.packing || !config.training.group_by_length) return;
  fail(
      "training.group_by_length: data.packing is set too, whose rows are equally long already; "
      "expected one of them at most");
}

std::int64_t data_seed(const TrainingConfig& config) {
  return config.data_seed.value_or(config.seed);
}

}  // namespace

TrainingRun::TrainingRun(const RunConfig& config, c10::Device device) : config_(config) {
  const io::ModelConfig structure = io::read_model_config(config.model.path);
  expect_fitting_context(config, structure);
  expect_one_arrangement(config);
  tokenizer_ = text::load_tokenizer(config.model.path);
  expect_fitting_tokenizer(*tokenizer_, structure, config.model.path);
  const auto seed = static_cast<std::uint64_t>(data_seed(config.training));
  dataset_ = data::load_dataset(config.data, *tokenizer_, seed);
  train_.emplace(
      make_plan(std::move(dataset_.train), config.training.per_device_train_batch_size, true));
  log::info("{}", train_->describe());
  if (!dataset_.validation.empty()) {
    validation_.emplace(make_plan(std::move(dataset_.validation),
                                  config.training.per_device_eval_batch_size, false));
  }
  if (config.training.eval_strategy != IntervalStrategy::No && !validation_) {
    fail(
        "training.eval_strategy: there is nothing to evaluate on; set data.validation or "
        "data.validation_split");
  }
  model_ =
      models::load(config.model.path, {.quantization = config.quantization,
                                       .dtype = config.training.activation_dtype(),
                                       .device = device,
                                       .embedding_on_host = config.training.embedding_offloading});
  adapter_ = models::to_adapter_config(config.lora, config.model.path);
  models::attach_lora(*model_, adapter_, config.lora.dtype,
                      static_cast<std::uint64_t>(config.training.seed));
  path_ = choose_training_path(*model_, config, train_->largest(),
                               validation_ ? validation_->largest() : data::LargestBatch{});
}

data::BatchPlan TrainingRun::make_plan(data::SampleStore samples, std::int64_t batch_size,
                                       bool shuffle) const {
  return {std::move(samples),
          {.batch_size = batch_size,
           .pad_id = data::pad_id(*tokenizer_),
           .seed = static_cast<std::uint64_t>(data_seed(config_.training)),
           .shuffle = shuffle,
           .pack_length = shuffle && config_.data.packing ? config_.data.max_length : 0,
           .group_by_length = shuffle && config_.training.group_by_length,
           .gradient_accumulation_steps = config_.training.gradient_accumulation_steps}};
}

std::string TrainingRun::describe(const data::PreviewStyle& style) const {
  const models::ParameterCount count = models::count_parameters(*model_);
  const double share =
      100.0 * static_cast<double>(count.trainable) / static_cast<double>(count.total);
  return fmt::format("trainable parameters: {} of {} ({:.3f} %)\n\n", count.trainable, count.total,
                     share) +
         data::preview_stats(dataset_, data::examine(dataset_.sources, splits(), *tokenizer_),
                             *tokenizer_) +
         "\n" + data::preview_samples(train_->samples(), dataset_.files, *tokenizer_, style) +
         "\n" +
         (path_.fused
              ? ""
              : memory_table(estimate_memory(config_, model_->config(), count, train_->longest())));
}

void TrainingRun::write_samples(const fs::path& path) const {
  data::write_preview_json(dataset_, splits(), *tokenizer_, path);
}

data::SplitSamples TrainingRun::splits() const {
  return {&train_->samples(), validation_ ? &validation_->samples() : nullptr};
}

Trainer TrainingRun::make_trainer() {
  const bool half = config_.training.fp16 || config_.lora.dtype == DType::Float16;
  return Trainer({.model = *model_,
                  .adapter = adapter_,
                  .train = *train_,
                  .validation = validation_ ? &*validation_ : nullptr,
                  .fused = path_.fused.get(),
                  .loss_scaling = half,
                  .write_companions = [this](const fs::path& d) { write_companions(d); }},
                 config_.training);
}

void TrainingRun::write_companions(const fs::path& directory) const {
  text::save_tokenizer(config_.model.path, directory);
  if (config_.data.chat_template) {
    write_text(directory / text::kChatTemplateFile,
               text::find_chat_template(*config_.data.chat_template, "data.chat_template"));
  }
  run::write_training_base(
      run::training_base_of(config_.quantization, config_.training.activation_dtype()), directory);
}

std::optional<fs::path> find_checkpoint(const std::string& resume, const fs::path& output_dir) {
  if (resume == "auto") {
    const auto checkpoints = list_checkpoints(output_dir);
    if (checkpoints.empty()) return std::nullopt;
    return checkpoints.back();
  }
  if (!fs::is_directory(resume)) {
    fail("--resume: '{}' is not a directory; expected auto or a checkpoint directory", resume);
  }
  return resume;
}

}  // namespace qlora::train
