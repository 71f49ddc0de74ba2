#pragma once
// A whole micro-step of a decoder: embedding, layers, loss, and the gradients of every adapter,
// queued without allocating or waiting. Forward and backward do the same work whatever the batch
// holds, so each can be captured into a CUDA graph; the loss works through as many rows as have a
// label.

#include "qlora/fused/input_offload.h"
#include "qlora/fused/memory_plan.h"

#include <vector>

namespace qlora::fused {

struct DecoderWeights {
  const void* embedding = nullptr;   // [vocabulary, hidden]
  const void* final_norm = nullptr;  // [hidden]
  const void* head = nullptr;        // [vocabulary, hidden]
  std::vector<LayerWeights> layers;
  const float* cos = nullptr;  // [positions, head_dim / 2]
  const float* sin = nullptr;
};

// A micro-batch in device memory, at addresses that stay.
struct StepInput {
  const std::int32_t* ids = nullptr;        // [tokens]
  const std::int32_t* positions = nullptr;  // [tokens], inside their documents
  kernels::Documents documents;             // cover all tokens
  const std::int64_t* samples = nullptr;    // [tokens], see TokenRun
  // Tokens whose successor has a label, and that label; -1 fills the last rows of a loss chunk.
  const std::int32_t* labelled = nullptr;  // [label capacity, a multiple of loss_rows]
  const std::int32_t* labels = nullptr;    // the same
  const float* loss_scale = nullptr;       // gradients are those of loss_scale · (sum of losses)
  double* loss = nullptr;                  // the sum of losses is added here
};

class Decoder {
 public:
  // shape.tokens may be fewer than the plan is for. `block`: plan.bytes() of device memory;
  // `offload`: where the plan offloads inputs, else null. All that is referred to outlives this
  // object.
  Decoder(const StepShape& shape, const DecoderWeights& weights, const MemoryPlan& plan,
          void* block, InputOffload* offload, kernels::cuda::Matmul& matmul,
          kernels::PackedAttention& attention);

  void forward(const StepInput& input, kernels::Stream stream);
  // `labelled`: how many rows of input.labelled count; the loss of those, and its gradient.
  void loss(const StepInput& input, std::int64_t labelled, kernels::Stream stream);
  // Adds to the adapters' gradients.
  void backward(const StepInput& input, kernels::Stream stream);

 private:
  TokenRun run(const StepInput& input) const;
  std::int64_t input_bytes() const;
  void loss_chunk(const StepInput& input, std::int64_t first, kernels::Stream stream);

  StepShape shape_;
  const DecoderWeights& weights_;
  std::vector<Recompute> modes_;
  StepMemory memory_;
  InputOffload* offload_;
  kernels::cuda::Matmul& matmul_;
  Block block_;
};

}  // namespace qlora::fused
