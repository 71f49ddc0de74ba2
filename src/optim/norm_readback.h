#pragma once
// A gradient norm where the kernels leave it, and its way to the host.

#include "qlora/kernels/gradient_norm.h"

#include <ATen/core/Tensor.h>
#include <ATen/cuda/CUDAEvent.h>

namespace qlora::optim {

class NormReadback {
 public:
  explicit NormReadback(c10::Device device);

  // In the device's memory.
  kernels::GradientNorm* norm() const;
  // Queues the copy to the host behind the work on the current stream.
  void send();
  // The norm as it was at send(). Waits for it, not for what was queued later.
  const kernels::GradientNorm& wait() const;

 private:
  at::Tensor device_;
  at::Tensor host_;  // pinned; on the CPU device_ itself
  at::cuda::CUDAEvent arrived_;
};

}  // namespace qlora::optim
