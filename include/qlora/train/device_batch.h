#pragma once

#include "qlora/data/batch.h"
#include "qlora/tensor/keyed_dropout.h"

#include <vector>

namespace qlora::train {

// The documents of a batch, row by row: tokens, pads counted with the last of their row, and
// kernels::sample_name.
struct Documents {
  std::vector<std::int64_t> lengths;
  std::vector<std::int64_t> names;
};

// Of a batch of this epoch. Throws Error where a sample's id or the epoch does not fit 32 bits.
Documents documents_of(const data::Batch& batch, std::int64_t epoch);

// A batch as tensors on the device.
struct DeviceBatch {
  at::Tensor ids;                // int64 [rows, length]
  at::Tensor labels;             // int64 [rows, length], -100 where nothing is learnt
  tensor::DropoutTokens tokens;  // of every token, [rows · length]
  at::Tensor label_weights;      // this and the next as in nn::ForwardContext
  std::vector<std::int64_t> documents;
};

DeviceBatch to_device(const data::Batch& batch, std::int64_t epoch, c10::Device device);

}  // namespace qlora::train
