#include "norm_readback.h"

#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAStream.h>

namespace qlora::optim {
namespace {

using kernels::GradientNorm;

constexpr auto kBytes = static_cast<std::int64_t>(sizeof(GradientNorm));

}  // namespace

NormReadback::NormReadback(c10::Device device)
    : device_(at::empty({kBytes}, at::TensorOptions(at::kByte).device(device))),
      host_(device_.is_cuda()
                ? at::empty({kBytes}, at::TensorOptions(at::kByte).pinned_memory(true))
                : device_) {}

GradientNorm* NormReadback::norm() const {
  return static_cast<GradientNorm*>(device_.mutable_data_ptr());
}

void NormReadback::send() {
  if (!device_.is_cuda()) return;
  host_.copy_(device_, /*non_blocking=*/true);
  arrived_.record(c10::cuda::getCurrentCUDAStream(device_.get_device()));
}

const GradientNorm& NormReadback::wait() const {
  if (device_.is_cuda()) arrived_.synchronize();
  return *static_cast<const GradientNorm*>(host_.const_data_ptr());
}

}  // namespace qlora::optim
