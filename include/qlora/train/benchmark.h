#pragma once
// How fast a training step is and what it holds, on random weights of a real model's shape.

#include "qlora/base/constraints.h"

#include <cstdint>
#include <optional>
#include <string>

namespace qlora::train {

struct TrainBenchmark {
  std::string shape = "exaone-3.5-2.4b";
  std::int64_t layers = 0;
  std::int64_t seq = 1024;
  std::int64_t batch = 2;
  std::int64_t accumulation = 8;
  std::int64_t steps = 4;
  std::int64_t rounds = 5;
  std::int64_t warmup = 3;
  std::int64_t r = 16;
  double lora_dropout = 0;
  std::optional<double> memory_limit;
  bool embedding_offloading = false;
  bool plain = false;
  bool deterministic = false;

  template <class V>
  void visit(V&& v) {
    v.field("shape", shape, "the model's shape",
            OneOf{{"exaone-3.5-2.4b", "llama-2-7b", "llama-3-8b", "qwen3-8b"}, ""});
    v.field("layers", layers, "of the model; 0: as many as the shape has", at_least(0));
    v.field("seq", seq, "tokens of a sequence", at_least(2));
    v.field("batch", batch, "sequences of a micro-batch", at_least(1));
    v.field("accumulation", accumulation, "micro-batches of an update", at_least(1));
    v.field("steps", steps, "updates of a round, which is timed as a whole", at_least(1));
    v.field("rounds", rounds, "rounds that are timed", at_least(1));
    v.field("warmup", warmup, "updates before those", at_least(1));
    v.field("r", r, "rank of the adapters, on all linear layers", Range{1, 65536});
    v.field("lora_dropout", lora_dropout, "dropout of the adapters' inputs", fraction_below_one());
    v.field("memory_limit", memory_limit, "GiB that the fused path may fill", above(0));
    v.field("embedding_offloading", embedding_offloading, "the input embedding on the host");
    v.field("plain", plain, "the plain path in place of the fused one");
    v.field("deterministic", deterministic, "the same bits in every run");
  }
};

// Trains on random tokens; returns what was measured as one JSON object, indented. Times are those
// of an update: the median round's, the fastest one's and the slowest one's. gpu_kernels_per_step,
// host_launches_per_step and gpu_busy_share (of wall time) come from the second of two more rounds
// under CUPTI, and are left out where there is none.
std::string benchmark_training(const TrainBenchmark& options);

}  // namespace qlora::train
