#pragma once
// Which of the two training paths a run takes.

#include "qlora/models/fused_llama.h"
#include "qlora/train/training_config.h"

#include <memory>

namespace qlora::train {

// The fused path, in the memory that the settings leave it; null, with a line that says why, where
// it does not apply. `longest`: tokens of the longest sample. The model has its adapters.
std::unique_ptr<models::FusedLlama> choose_training_path(models::CausalLM& model,
                                                         const TrainingConfig& config,
                                                         std::int64_t longest);

}  // namespace qlora::train
