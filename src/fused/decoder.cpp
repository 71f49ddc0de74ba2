#include "qlora/fused/decoder.h"

#include "qlora/kernels/cross_entropy.h"
#include "qlora/kernels/cuda_check.h"
#include "qlora/kernels/gather_rows.h"
#include "qlora/kernels/rms_norm.h"

#include <cuda_runtime_api.h>

namespace qlora::fused {

using kernels::Rows;

Decoder::Decoder(const StepShape& shape, const DecoderWeights& weights, const MemoryPlan& plan,
                 void* block, InputOffload* offload, kernels::cuda::Matmul& matmul,
                 kernels::PackedAttention& attention)
    : shape_(shape),
      weights_(weights),
      modes_(plan.choice().modes),
      memory_(plan.locate(block)),
      offload_(offload),
      matmul_(matmul),
      block_(shape.layer, matmul, attention) {}

TokenRun Decoder::run(const StepInput& input) const {
  return {.tokens = shape_.tokens,
          .documents = input.documents,
          .angles = {.positions = input.positions, .cos = weights_.cos, .sin = weights_.sin},
          .samples = input.samples};
}

void Decoder::forward(const StepInput& input, kernels::Stream stream) {
  const std::int64_t hidden = shape_.layer.hidden;
  kernels::cuda::gather_rows({weights_.embedding, hidden}, input.ids, shape_.layer.dtype,
                             shape_.tokens, hidden, {memory_.layers.front().x, hidden}, stream);
  const std::size_t layers = memory_.layers.size();
  for (std::size_t i = 0; i < layers; ++i) {
    if (offload_ != nullptr) {
      offload_->save(i, memory_.layers[i].x, input_bytes(), stream);
      if (i > 0) offload_->wait(i - 1, stream);  // its slot is the next layer's
    }
    void* next = i + 1 < layers ? memory_.layers[i + 1].x : memory_.last;
    block_.forward(weights_.layers[i], memory_.layers[i], run(input), memory_.space, next, stream);
  }
}

std::int64_t Decoder::input_bytes() const {
  return shape_.tokens * shape_.layer.hidden *
         static_cast<std::int64_t>(size_of(shape_.layer.dtype));
}

void Decoder::loss(const StepInput& input, std::int64_t labelled, kernels::Stream stream) {
  const auto bytes = shape_.tokens * shape_.layer.gradient_stride() *
                     static_cast<std::int64_t>(size_of(shape_.layer.dtype));
  QLORA_CUDA(cudaMemsetAsync(memory_.gradient, 0, static_cast<std::size_t>(bytes),
                             static_cast<cudaStream_t>(stream)));
  for (std::int64_t first = 0; first < labelled; first += shape_.loss_rows) {
    loss_chunk(input, first, stream);
  }
}

void Decoder::loss_chunk(const StepInput& input, std::int64_t first, kernels::Stream stream) {
  const std::int64_t rows = shape_.loss_rows;
  const std::int64_t hidden = shape_.layer.hidden;
  const DType dtype = shape_.layer.dtype;
  const LossSpace& space = memory_.loss;
  const Rows x{space.rows, hidden}, normed{space.normed, hidden};
  const Rows logits{space.logits, shape_.vocabulary};
  kernels::cuda::gather_rows({memory_.last, hidden}, input.labelled + first, dtype, rows, hidden, x,
                             stream);
  kernels::cuda::rms_norm(x, weights_.final_norm, dtype, rows, hidden, shape_.layer.norm_eps,
                          normed, space.rstd, stream);
  matmul_.run({.m = rows,
               .n = shape_.vocabulary,
               .k = hidden,
               .transpose_b = true,
               .a_stride = hidden,
               .b_stride = hidden,
               .d_stride = shape_.vocabulary,
               .in = dtype,
               .out = dtype},
              {.a = space.normed, .b = weights_.head, .d = space.logits}, stream);
  kernels::cuda::cross_entropy(logits, dtype, rows, shape_.vocabulary, input.labels + first,
                               input.loss_scale, space.losses, stream);
  kernels::cuda::sum_losses(space.losses, rows, input.loss, stream);
  matmul_.run({.m = rows,
               .n = hidden,
               .k = shape_.vocabulary,
               .a_stride = shape_.vocabulary,
               .b_stride = hidden,
               .d_stride = hidden,
               .in = dtype,
               .out = dtype},
              {.a = space.logits, .b = weights_.head, .d = space.normed}, stream);
  kernels::cuda::rms_norm_backward(
      {.dy = normed, .x = x, .weight = weights_.final_norm, .rstd = space.rstd, .dx = x}, dtype,
      rows, hidden, stream);
  kernels::cuda::scatter_rows(x, input.labelled + first, dtype, rows, hidden,
                              {memory_.gradient, shape_.layer.gradient_stride()}, stream);
}

void Decoder::backward(const StepInput& input, kernels::Stream stream) {
  const TokenRun tokens = run(input);
  for (std::size_t i = memory_.layers.size(); i-- > 0;) {
    if (offload_ != nullptr) {
      // The slot of the layer below is that of the layer above, which is done.
      if (i > 0) offload_->load(i - 1, memory_.layers[i - 1].x, input_bytes(), stream);
      offload_->wait(i, stream);
    }
    const Activations& kept = memory_.layers[i];
    const LayerWeights& weights = weights_.layers[i];
    // What the last layer's forward pass left in shared memory is still there.
    const bool again = modes_[i] != Recompute::None && i + 1 < memory_.layers.size();
    if (again) {
      block_.recompute(weights, kept, tokens, memory_.space, modes_[i] == Recompute::Full, stream);
    }
    block_.backward(weights, kept, tokens, memory_.space, memory_.gradient, again,
                    /*last=*/i == 0, stream);
  }
}

}  // namespace qlora::fused
