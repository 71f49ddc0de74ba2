#pragma once
// From a run's settings to everything that a trainer works on.

#include "qlora/data/batch_plan.h"
#include "qlora/data/dataset.h"
#include "qlora/data/preview.h"
#include "qlora/train/run_config.h"
#include "qlora/train/trainer.h"
#include "qlora/train/training_path.h"

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

namespace qlora::train {

class TrainingRun {
 public:
  // Loads tokenizer, data and model, and attaches the adapter. Throws Error: data.max_length beyond
  // the model's context, a tokenizer with more tokens than the model, and what loading throws.
  TrainingRun(const RunConfig& config, c10::Device device);

  // Parameters, data preview and memory estimate, for a person.
  std::string describe(const data::PreviewStyle& style) const;
  // The data preview of every sample, for programs: see data::write_preview_json.
  void write_samples(const std::filesystem::path& path) const;

  // Refers to this object, which must outlive it.
  Trainer make_trainer();

 private:
  data::SplitSamples splits() const;
  data::BatchPlan make_plan(data::SampleStore samples, std::int64_t batch_size, bool shuffle) const;
  void write_companions(const std::filesystem::path& directory) const;

  RunConfig config_;
  std::unique_ptr<text::Tokenizer> tokenizer_;
  data::Dataset dataset_;  // less its samples, which the plans hold
  std::unique_ptr<models::CausalLM> model_;
  TrainingPath path_;
  io::AdapterConfig adapter_;
  std::optional<data::BatchPlan> train_;
  std::optional<data::BatchPlan> validation_;
};

// The checkpoint that `--resume auto|DIR` means. `auto` takes the newest of output_dir, and none
// where there is none yet. Throws Error for a directory that is not there.
std::optional<std::filesystem::path> find_checkpoint(const std::string& resume,
                                                     const std::filesystem::path& output_dir);

}  // namespace qlora::train
