#pragma once

#include "qlora/data/batch.h"
#include "qlora/tensor/keyed_dropout.h"

namespace qlora::train {

// A batch as tensors on the device.
struct DeviceBatch {
  at::Tensor ids;                // int64 [rows, length]
  at::Tensor labels;             // int64 [rows, length], -100 where nothing is learnt
  tensor::DropoutTokens tokens;  // of every token, [rows · length]
  at::Tensor label_weights;      // this and the next as in nn::ForwardContext
  std::vector<std::int64_t> documents;
};

DeviceBatch to_device(const data::Batch& batch, c10::Device device);

}  // namespace qlora::train
