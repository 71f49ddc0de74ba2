#pragma once
// A value that work on a device leaves behind, and its way to the host without a wait in between.

#include <ATen/core/Tensor.h>
#include <ATen/cuda/CUDAEvent.h>

namespace qlora::tensor {

class Readback {
 public:
  // `value`: contiguous, on the CPU or a GPU.
  explicit Readback(at::Tensor value);

  // On its device.
  const at::Tensor& value() const { return value_; }
  // Queues the copy to the host behind the work on the current stream.
  void send();
  // The value as it was at send(), on the host. Waits for that, not for what was queued later.
  const at::Tensor& wait() const;

 private:
  at::Tensor value_;
  at::Tensor host_;  // pinned
  at::cuda::CUDAEvent arrived_;
};

}  // namespace qlora::tensor
