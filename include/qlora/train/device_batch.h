#pragma once

#include "qlora/data/batch.h"
#include "qlora/tensor/keyed_dropout.h"

namespace qlora::train {

// A batch as tensors on the device.
struct DeviceBatch {
  at::Tensor ids;                       // int64 [rows, length]
  at::Tensor labels;                    // int64 [rows, length], -100 where nothing is learnt
  tensor::DropoutTokens tokens;         // of every token, [rows · length]
  std::vector<std::int64_t> documents;  // as in nn::ForwardContext
};

DeviceBatch to_device(const data::Batch& batch, c10::Device device);

}  // namespace qlora::train
