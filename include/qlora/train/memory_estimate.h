#pragma once
// What a run will hold in device memory, from sizes alone.

#include "qlora/data/batch_plan.h"
#include "qlora/models/adapters.h"
#include "qlora/train/run_config.h"

#include <cstdint>
#include <string>
#include <vector>

namespace qlora::train {

struct MemoryItem {
  std::string name;
  std::int64_t bytes = 0;
};

// State of `trainable` elements, wherever it lives.
std::int64_t optimizer_bytes(Optim optim, std::int64_t trainable);

// Weights, adapters, gradients, optimizer state, activations of the longest batch, the largest
// scratch matrices. Activations are counted for the plain path and come out within about a fifth.
std::vector<MemoryItem> estimate_memory(const RunConfig& config, const io::ModelConfig& model,
                                        const models::ParameterCount& parameters,
                                        std::int64_t longest_sample);

// What evaluating `batch` on the plain path takes at most, beside the weights; 0 for an empty one.
std::int64_t evaluation_bytes(const io::ModelConfig& model, const data::LargestBatch& batch,
                              DType activations);

std::int64_t memory_sum(const std::vector<MemoryItem>& items);

// The items as a table with their sum.
std::string memory_table(const std::vector<MemoryItem>& items);

}  // namespace qlora::train
