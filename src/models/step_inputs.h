#pragma once
// A batch on its way to the fused path: written into pinned memory, copied without waiting.

#include "qlora/fused/decoder.h"
#include "qlora/models/fused_llama.h"

#include <ATen/core/Tensor.h>
#include <ATen/cuda/CUDAEvent.h>

#include <array>

namespace qlora::models {

class StepInputs {
 public:
  // Room for batches of attention.tokens tokens in attention.slots documents; the list of labels
  // is padded to a multiple of loss_rows. Without dropout, view().samples is null.
  StepInputs(const kernels::AttentionShape& attention, std::int64_t loss_rows, bool dropout,
             c10::Device device);

  // float64 [1] on the device, which view().loss points to.
  const at::Tensor& loss() const { return loss_; }

  // The device's copy, at addresses that stay.
  const fused::StepInput& view() const { return view_; }

  // Queues the copy of a batch, its rows `length` tokens apart (batch.length or more); those that
  // it lacks of `rows` become documents without labels. Returns the count of labelled tokens.
  std::int64_t load(const TokenRows& batch, std::int64_t rows, std::int64_t length, double scale);

 private:
  // Where each list starts in one buffer of int32.
  struct Layout {
    std::int64_t ids, positions, samples, starts, labelled, labels, scale, total;
  };
  Layout make_layout() const;
  std::int64_t write_labels(const TokenRows& batch, std::int64_t length, std::int32_t* out) const;
  void write_documents(const TokenRows& batch, std::int64_t rows, std::int64_t length,
                       std::int32_t* out) const;

  // Two, so that a batch can be written while the one before is being copied.
  struct Staging {
    at::Tensor pinned;
    at::cuda::CUDAEvent copied;
  };

  kernels::AttentionShape attention_;
  std::int64_t loss_rows_;
  bool dropout_;
  Layout layout_;
  std::array<Staging, 2> staging_;
  std::size_t next_ = 0;
  at::Tensor device_;             // int32, as the staging
  at::Tensor lengths_, offsets_;  // of the documents, see attention.h
  at::Tensor loss_;
  fused::StepInput view_;
};

}  // namespace qlora::models
