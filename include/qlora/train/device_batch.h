#pragma once

#include "qlora/data/batch.h"
#include "qlora/tensor/keyed_dropout.h"

namespace qlora::train {

// A batch as tensors on the device.
struct DeviceBatch {
  at::Tensor ids;                // int64 [rows, length]
  at::Tensor labels;             // int64 [rows, length], -100 where nothing is learnt
  tensor::DropoutTokens tokens;  // sample's name and position of every token, [rows · length]
};

// A batch of this epoch. Throws Error where a sample's id or the epoch does not fit 32 bits.
DeviceBatch to_device(const data::Batch& batch, std::int64_t epoch, c10::Device device);

}  // namespace qlora::train
