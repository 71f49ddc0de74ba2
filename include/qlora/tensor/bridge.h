#pragma once
// Between this project's raw types and LibTorch's: element types, streams, stored bytes.

#include "qlora/base/dtype.h"
#include "qlora/io/tensor_view.h"
#include "qlora/kernels/types.h"

#include <ATen/core/Tensor.h>

namespace qlora::tensor {

at::ScalarType scalar_type(DType dtype);
DType dtype_of(at::ScalarType dtype);
DType dtype_of(const at::Tensor& tensor);

// The stream that LibTorch currently uses on the tensor's device; nullptr on the CPU.
kernels::Stream current_stream(const at::Tensor& tensor);

// A tensor that owns a copy of stored bytes, on the CPU.
at::Tensor to_tensor(const io::TensorView& view);

// The bytes of a contiguous CPU tensor. Valid while the tensor lives.
std::span<const std::byte> bytes_of(const at::Tensor& tensor);

// Routes parallel_for of the CPU kernels to LibTorch's threads. Called once by each program.
void share_torch_threads();

}  // namespace qlora::tensor
