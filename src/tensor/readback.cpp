#include "qlora/tensor/readback.h"

#include <ATen/ops/empty_like.h>
#include <c10/cuda/CUDAStream.h>

#include <utility>

namespace qlora::tensor {

Readback::Readback(at::Tensor value)
    : value_(std::move(value)),
      host_(at::empty_like(
          value_, at::TensorOptions(c10::kCPU).pinned_memory(value_.device().is_cuda()))) {}

void Readback::send() {
  host_.copy_(value_, /*non_blocking=*/true);
  if (value_.is_cuda()) arrived_.record(c10::cuda::getCurrentCUDAStream(value_.get_device()));
}

const at::Tensor& Readback::wait() const {
  if (value_.is_cuda()) arrived_.synchronize();
  return host_;
}

}  // namespace qlora::tensor
