#pragma once
// Which of the two ways a run trains by.

#include "qlora/data/batch_plan.h"
#include "qlora/models/fused_llama.h"
#include "qlora/train/memory_estimate.h"
#include "qlora/train/run_config.h"

#include <memory>

namespace qlora::train {

struct TrainingPath {
  std::unique_ptr<models::FusedLlama> fused;  // null: the plain path
  std::vector<MemoryItem> memory;             // what the fused path's run will hold on the GPU
};

// The fused path where model, device and settings allow it, with room for evaluating batches like
// `validation`; else the plain one. Logs which, how the fused one uses the memory or why the plain
// one trains, and which settings have no effect on it. Throws Error where the memory does not
// suffice.
TrainingPath choose_training_path(models::CausalLM& model, const RunConfig& run,
                                  const data::LargestBatch& train,
                                  const data::LargestBatch& validation = {});

}  // namespace qlora::train
