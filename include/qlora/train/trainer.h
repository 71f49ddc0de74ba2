#pragma once
// The training loop.

#include "qlora/data/batch_loader.h"
#include "qlora/data/batch_plan.h"
#include "qlora/models/adapters.h"
#include "qlora/models/fused_llama.h"
#include "qlora/optim/adamw.h"
#include "qlora/optim/schedule.h"
#include "qlora/tensor/readback.h"
#include "qlora/train/checkpoint.h"
#include "qlora/train/loss_scaler.h"
#include "qlora/train/progress.h"
#include "qlora/train/step_plan.h"
#include "qlora/train/training_config.h"

#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>

namespace qlora::train {

// Everything a run works on. The references must outlive the trainer.
struct TrainerParts {
  models::CausalLM& model;
  io::AdapterConfig adapter;
  const data::BatchPlan& train;
  const data::BatchPlan* validation = nullptr;  // null: no evaluation
  models::FusedLlama* fused = nullptr;          // null: training takes the plain path
  bool loss_scaling = false;
  // Writes what belongs beside a saved adapter (tokenizer, training base) into a directory.
  std::function<void(const std::filesystem::path&)> write_companions;
};

// One update's figures.
struct StepResult {
  double loss = 0;  // mean over the update's labelled tokens
  double gradient_norm = 0;
  double learning_rate = 0;
  std::int64_t tokens = 0;
};

class Trainer {
 public:
  Trainer(TrainerParts parts, const TrainingConfig& config);

  // Continues from a checkpoint directory. Throws Error where it is damaged or of another run.
  void resume(const std::filesystem::path& checkpoint);

  // Trains to the end and saves output_dir/adapter. An interrupt ends it after a checkpoint: false.
  bool run();

  // Update `step`, counted from 0. Throws Error where the loss or the gradient is not finite.
  StepResult train_step(std::int64_t step);
  // The same in two halves, so that the device need not wait for the host: queues the update and
  // returns the figures of the one queued before it, which were not asked for yet.
  std::optional<StepResult> queue_step(std::int64_t step);
  // Waits for those of the last one; nothing where none is queued.
  std::optional<StepResult> settle();

 private:
  using Clock = std::chrono::steady_clock;
  // An update whose loss and gradient norm are still to come.
  struct Queued {
    std::int64_t step = 0;
    StepResult result;
    double labels = 0;  // the sum of their weights
  };

  bool runs_ahead() const;
  std::vector<data::Batch> take_batches(const UpdateWindow& window);
  // Forward and backward of an update's micro-batches: gradients of scale · (sum of losses), and
  // that sum in losses_.
  void accumulate(const std::vector<data::Batch>& batches, std::int64_t epoch, double scale);
  void accumulate_plain(const data::Batch& batch, std::int64_t epoch, double scale);
  void report(std::int64_t step, const StepResult& result);
  void evaluate_now();
  void save_checkpoint();
  void save_final();
  void write_adapter(const std::filesystem::path& directory);
  bool due(IntervalStrategy strategy, double steps, std::int64_t step) const;
  TrainerState state() const;

  TrainerParts parts_;
  TrainingConfig config_;
  StepPlan plan_;
  optim::Schedule schedule_;
  optim::AdamW optimizer_;
  LossScaler scaler_;
  tensor::Readback losses_;  // the sum over an update's labels
  std::optional<Queued> queued_;
  std::unique_ptr<data::BatchLoader> loader_;
  std::unique_ptr<MetricsLog> metrics_;
  Progress progress_;
  std::int64_t done_ = 0;     // updates queued, skipped ones included
  Clock::time_point mark_{};  // up to where time was reported

  struct Since {  // the last logged report
    std::int64_t updates = 0;
    std::int64_t tokens = 0;
    double loss = 0;
    double seconds = 0;
    double data_wait = 0;  // of these, for batches; with those of an update that is queued already
  } since_;
  double run_seconds_ = 0;
  std::int64_t run_updates_ = 0;
};

}  // namespace qlora::train
