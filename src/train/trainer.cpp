#include "qlora/train/trainer.h"

#include "clock.h"
#include "qlora/base/file.h"
#include "qlora/base/log.h"
#include "qlora/tensor/device.h"
#include "qlora/tensor/tensor_file.h"
#include "qlora/train/device_batch.h"
#include "qlora/train/evaluate.h"
#include "qlora/train/interrupt.h"

#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>
#include <utility>

namespace qlora::train {
namespace fs = std::filesystem;
namespace {

optim::AdamWOptions optimizer_options(const TrainingConfig& c) {
  const bool eight_bit = c.optim == Optim::Adamw8bit || c.optim == Optim::PagedAdamw8bit;
  const bool paged = c.optim == Optim::PagedAdamw8bit || c.optim == Optim::PagedAdamw32bit;
  return {.eight_bit = eight_bit,
          .paged = paged,
          .beta1 = c.adam_beta1,
          .beta2 = c.adam_beta2,
          .epsilon = c.adam_epsilon,
          .weight_decay = c.weight_decay};
}

optim::Schedule schedule_of(const TrainingConfig& c, std::int64_t max_steps) {
  const auto share = std::ceil(c.warmup_ratio * static_cast<double>(max_steps));
  return {.type = c.lr_scheduler_type,
          .learning_rate = c.learning_rate,
          .warmup_steps = c.warmup_steps > 0 ? c.warmup_steps : static_cast<std::int64_t>(share),
          .max_steps = max_steps,
          .min_lr_rate = c.lr_scheduler_kwargs.min_lr_rate.value_or(0.0)};
}

at::Tensor loss_sum_of(const TrainerParts& parts) {
  if (parts.fused != nullptr) return parts.fused->loss_sum();
  return at::zeros({1}, at::TensorOptions(parts.model.device()).dtype(at::kDouble));
}

}  // namespace

Trainer::Trainer(TrainerParts parts, const TrainingConfig& config)
    : parts_(std::move(parts)),
      config_(config),
      plan_(parts_.train.batches_per_epoch(), config.gradient_accumulation_steps,
            config.num_train_epochs, config.max_steps),
      schedule_(schedule_of(config, plan_.max_steps())),
      optimizer_(
          models::trainable_parameters(parts_.model), optimizer_options(config),
          parts_.fused != nullptr ? parts_.fused->copies() : std::vector<tensor::CopyTarget>{}),
      scaler_(parts_.loss_scaling),
      losses_(loss_sum_of(parts_)) {}

StepResult Trainer::train_step(std::int64_t step) {
  queue_step(step);
  return *settle();
}

std::optional<StepResult> Trainer::queue_step(std::int64_t step) {
  const UpdateWindow window = plan_.window(step);
  const std::vector<data::Batch> batches = take_batches(window);
  Queued next{.step = step};
  for (const data::Batch& batch : batches) {
    next.labels += batch.label_weight;
    next.result.tokens += batch.token_count;
  }
  accumulate(batches, window.epoch, scaler_.scale() / next.labels);
  const std::optional<StepResult> before = settle();
  losses_.send();
  losses_.value().zero_();
  next.result.learning_rate = optim::learning_rate(schedule_, optimizer_.steps());
  optimizer_.step(next.result.learning_rate,
                  {.gradient_scale = 1 / scaler_.scale(), .max_norm = config_.max_grad_norm});
  queued_ = next;
  return before;
}

std::optional<StepResult> Trainer::settle() {
  if (!queued_) return std::nullopt;
  const Queued queued = *std::exchange(queued_, std::nullopt);
  StepResult result = queued.result;
  result.loss = losses_.wait().item<double>() / queued.labels;
  const optim::StepOutcome outcome = optimizer_.outcome();
  result.gradient_norm = outcome.gradient_norm;
  const bool good = outcome.updated && std::isfinite(result.loss);
  if (!scaler_.accept(good) && !parts_.loss_scaling) {
    fail(
        "step {}: the loss ({}) or the gradient norm ({}) is not finite, and nothing was saved "
        "since: lower training.learning_rate or resume from a checkpoint",
        queued.step + 1, result.loss, result.gradient_norm);
  }
  return result;
}

std::vector<data::Batch> Trainer::take_batches(const UpdateWindow& window) {
  if (!loader_) {
    loader_ = std::make_unique<data::BatchLoader>(parts_.train, config_.dataloader_num_workers,
                                                  window.epoch, window.first_batch);
  }
  const Clock::time_point start = Clock::now();
  std::vector<data::Batch> batches;
  for (std::int64_t i = 0; i < window.count; ++i) batches.push_back(loader_->next());
  since_.data_wait += seconds_since(start);
  return batches;
}

void Trainer::accumulate(const std::vector<data::Batch>& batches, std::int64_t epoch,
                         double scale) {
  for (const data::Batch& batch : batches) {
    if (parts_.fused != nullptr) {
      const Documents documents = documents_of(batch, epoch);
      parts_.fused->accumulate({batch.rows, batch.length, batch.input_ids, batch.labels,
                                documents.lengths, documents.names},
                               scale);
    } else {
      accumulate_plain(batch, epoch, scale);
    }
  }
}

void Trainer::accumulate_plain(const data::Batch& batch, std::int64_t epoch, double scale) {
  const DeviceBatch inputs = to_device(batch, epoch, parts_.model.device());
  const nn::ForwardContext context{.training = true,
                                   .tokens = inputs.tokens,
                                   .neftune_noise_alpha = config_.neftune_noise_alpha.value_or(0),
                                   .documents = inputs.documents,
                                   .label_weights = inputs.label_weights,
                                   .seed = static_cast<std::uint64_t>(config_.seed),
                                   .recompute_activations = config_.gradient_checkpointing};
  const at::Tensor hidden = parts_.model.hidden_states(inputs.ids, context);
  const at::Tensor loss = parts_.model.loss_sum(hidden, inputs.labels, context);
  torch::autograd::backward({loss * scale});
  losses_.value().add_(loss.detach());
}

// A GPU computes an update while the host prepares the next one, unless that depends on the
// outcome.
bool Trainer::runs_ahead() const { return parts_.model.device().is_cuda() && !parts_.loss_scaling; }

bool Trainer::run() {
  fs::create_directories(config_.output_dir);
  metrics_ = std::make_unique<MetricsLog>(fs::path(config_.output_dir) / "metrics.jsonl", done_);
  watch_interrupts();
  mark_ = Clock::now();
  while (done_ < plan_.max_steps()) {
    if (const auto before = queue_step(done_)) report(done_, *before);
    ++done_;
    const bool stop = interrupted();
    const bool evaluates =
        parts_.validation != nullptr &&
        due(config_.eval_strategy, config_.eval_steps.value_or(config_.logging_steps), done_);
    const bool saves = stop || due(config_.save_strategy, config_.save_steps, done_);
    if (runs_ahead() && !evaluates && !saves && done_ < plan_.max_steps()) continue;
    report(done_, *settle());
    if (saves) save_checkpoint();  // first: should the evaluation fail, nothing is lost
    if (evaluates) evaluate_now();
    if (stop) {
      log::info("interrupted after step {}; continue with --resume auto", done_);
      return false;
    }
    mark_ = Clock::now();
  }
  progress_.finish_line();
  save_final();
  return true;
}

// Whether something that happens by `strategy` is due after update `step`, counted from 1.
bool Trainer::due(IntervalStrategy strategy, double steps, std::int64_t step) const {
  switch (strategy) {
    case IntervalStrategy::No: return false;
    case IntervalStrategy::Epoch: return plan_.ends_epoch(step - 1) || step == plan_.max_steps();
    case IntervalStrategy::Steps: return step % resolve_steps(steps, plan_.max_steps()) == 0;
  }
  return false;
}

void Trainer::report(std::int64_t step, const StepResult& result) {
  ++since_.updates;
  since_.tokens += result.tokens;
  since_.loss += result.loss;
  since_.seconds += seconds_since(std::exchange(mark_, Clock::now()));
  ++run_updates_;
  const double average = (run_seconds_ + since_.seconds) / static_cast<double>(run_updates_);
  const StepReport report{.step = step,
                          .max_steps = plan_.max_steps(),
                          .epoch = plan_.epochs_after(step),
                          .loss = since_.loss / static_cast<double>(since_.updates),
                          .learning_rate = result.learning_rate,
                          .gradient_norm = result.gradient_norm,
                          .tokens_per_second = static_cast<double>(since_.tokens) / since_.seconds,
                          .data_wait_seconds = since_.data_wait,
                          .memory_bytes = tensor::peak_memory(parts_.model.device()),
                          .seconds_left = average * static_cast<double>(plan_.max_steps() - step)};
  progress_.draw(report);
  const bool logs = due(IntervalStrategy::Steps, config_.logging_steps, step);
  if (!logs && step != plan_.max_steps()) return;
  progress_.log(report);
  metrics_->write(to_json(report));
  run_seconds_ += since_.seconds;
  since_ = {};
}

void Trainer::evaluate_now() {
  const EvaluationResult result = evaluate(parts_.model, *parts_.validation);
  progress_.finish_line();
  log::info("step {}  eval_loss {:.4f}  perplexity {:.3f}  ({} labelled tokens)", done_,
            result.loss, result.perplexity, result.labels);
  metrics_->write({{"step", done_},
                   {"eval_loss", result.loss},
                   {"eval_perplexity", result.perplexity},
                   {"eval_labels", result.labels}});
}

TrainerState Trainer::state() const {
  return {.global_step = done_,
          .optimizer_steps = optimizer_.steps(),
          .loss_scale = scaler_.scale(),
          .good_steps = scaler_.good_steps(),
          .seed = config_.seed,
          .data_seed = config_.data_seed.value_or(config_.seed),
          .samples = parts_.train.sample_count(),
          .batch_size = config_.per_device_train_batch_size,
          .accumulation = config_.gradient_accumulation_steps,
          .group_by_length = config_.group_by_length,
          .packing = parts_.train.packs(),
          .epoch = plan_.epochs_after(done_),
          .max_steps = plan_.max_steps()};
}

void Trainer::write_adapter(const fs::path& directory) {
  models::save_adapter(parts_.model, parts_.adapter, directory);
  if (parts_.write_companions) parts_.write_companions(directory);
}

void Trainer::save_checkpoint() {
  const fs::path output_dir = config_.output_dir;
  AtomicDirectory directory(output_dir / fmt::format("checkpoint-{}", done_));
  write_adapter(directory.path());
  tensor::write_tensors(directory.path() / "optimizer.safetensors", optimizer_.state());
  write_text(directory.path() / "trainer_state.json", to_json(state()).dump(2) + "\n");
  write_checksums(directory.path());
  directory.commit();
  if (config_.save_total_limit) rotate_checkpoints(output_dir, *config_.save_total_limit);
  progress_.finish_line();
  log::info("saved {}", (output_dir / fmt::format("checkpoint-{}", done_)).string());
}

// The finished adapter, beside the checkpoints.
void Trainer::save_final() {
  const fs::path output_dir = config_.output_dir;
  AtomicDirectory directory(output_dir / "adapter");
  write_adapter(directory.path());
  directory.commit();
  log::info("saved the adapter in {}", (output_dir / "adapter").string());
}

void Trainer::resume(const fs::path& checkpoint) {
  verify_checksums(checkpoint);
  const fs::path state_file = checkpoint / "trainer_state.json";
  const TrainerState saved = trainer_state_from_json(read_json(state_file), state_file.string());
  expect_same_run(saved, state(), checkpoint);
  models::load_adapter_weights(parts_.model, checkpoint);
  const fs::path optimizer_file = checkpoint / "optimizer.safetensors";
  optimizer_.load_state(tensor::read_tensors(optimizer_file), saved.optimizer_steps,
                        optimizer_file.string());
  scaler_.restore(saved.loss_scale, saved.good_steps);
  done_ = saved.global_step;
  loader_.reset();
}

}  // namespace qlora::train
