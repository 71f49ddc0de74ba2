#pragma once
// The training loop.

#include "qlora/data/batch_loader.h"
#include "qlora/data/batch_plan.h"
#include "qlora/models/adapters.h"
#include "qlora/models/fused_llama.h"
#include "qlora/optim/adamw.h"
#include "qlora/optim/schedule.h"
#include "qlora/train/checkpoint.h"
#include "qlora/train/loss_scaler.h"
#include "qlora/train/progress.h"
#include "qlora/train/step_plan.h"
#include "qlora/train/training_config.h"

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

  // Update `step`, counted from 0. Throws Error where the loss is not finite.
  StepResult train_step(std::int64_t step);

 private:
  std::vector<data::Batch> take_batches(const UpdateWindow& window);
  // Forward and backward of an update's micro-batches; the mean loss over their labels.
  double accumulate(const std::vector<data::Batch>& batches, std::int64_t epoch, double labels);
  // The same for one micro-batch on the plain path; the loss summed over its labels.
  double accumulate_plain(const data::Batch& batch, std::int64_t epoch, double scale);
  void report(const StepResult& result);
  void evaluate_now();
  void save_checkpoint();
  void save_final();
  void write_adapter(const std::filesystem::path& directory);
  bool due(IntervalStrategy strategy, double steps) const;
  TrainerState state() const;

  TrainerParts parts_;
  TrainingConfig config_;
  StepPlan plan_;
  optim::Schedule schedule_;
  optim::AdamW optimizer_;
  LossScaler scaler_;
  std::unique_ptr<data::BatchLoader> loader_;
  std::unique_ptr<MetricsLog> metrics_;
  Progress progress_;
  std::int64_t done_ = 0;  // updates, skipped ones included

  struct Since {  // the last logged report
    std::int64_t updates = 0;
    std::int64_t tokens = 0;
    double loss = 0;
    double seconds = 0;
  } since_;
  double run_seconds_ = 0;
  std::int64_t run_updates_ = 0;
};

}  // namespace qlora::train
