#include "qlora/tensor/device.h"

#include "qlora/base/error.h"

#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>
#include <sys/resource.h>

namespace qlora::tensor {

c10::Device choose_device(std::string_view name) {
  const c10::DeviceIndex gpus = c10::cuda::device_count();
  if (name == "cpu" || (name == "auto" && gpus == 0)) return c10::Device(c10::kCPU);
  if (name != "auto" && name != "cuda") {
    fail("--device: expected auto, cpu or cuda, got '{}'", name);
  }
  if (gpus == 0) {
    fail("--device cuda: no usable GPU was found; check nvidia-smi, or take --device cpu");
  }
  return c10::Device(c10::kCUDA, 0);
}

std::int64_t peak_memory(c10::Device device) {
  if (device.is_cuda()) {
    const auto stats = c10::cuda::CUDACachingAllocator::getDeviceStats(device.index());
    return stats.reserved_bytes[0].peak;
  }
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss * std::int64_t{1024};
}

void synchronize(c10::Device device) {
  if (device.is_cuda()) c10::cuda::device_synchronize();
}

}  // namespace qlora::tensor
