#pragma once
// Which of the two ways a run trains by.

#include "qlora/models/fused_llama.h"
#include "qlora/train/memory_estimate.h"
#include "qlora/train/training_config.h"

#include <memory>

namespace qlora::train {

struct TrainingPath {
  std::unique_ptr<models::FusedLlama> fused;  // null: the plain path
  std::vector<MemoryItem> memory;             // what the fused path's run will hold on the GPU
};

// What a batch holds at most.
struct LargestBatch {
  std::int64_t row_tokens = 1;
  std::int64_t row_documents = 1;
};

// The fused path where model, device and settings allow it, else the plain one; logs which, and
// why. Throws Error where the memory does not suffice.
TrainingPath choose_training_path(models::CausalLM& model, const TrainingConfig& config,
                                  const LargestBatch& largest);

}  // namespace qlora::train
