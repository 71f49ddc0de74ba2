#include "qlora/tensor/device.h"

#include "qlora/base/error.h"
#include "qlora/kernels/cuda_check.h"

#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>
#include <cuda_runtime_api.h>
#include <sys/resource.h>

#include <algorithm>

namespace qlora::tensor {
namespace {

struct MemoryInfo {
  std::int64_t free, total;
};

MemoryInfo memory_info(c10::Device device) {
  const c10::cuda::CUDAGuard guard(device);
  std::size_t free = 0, total = 0;
  QLORA_CUDA(cudaMemGetInfo(&free, &total));
  return {static_cast<std::int64_t>(free), static_cast<std::int64_t>(total)};
}

}  // namespace

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

std::int64_t used_memory(c10::Device device) {
  const MemoryInfo info = memory_info(device);
  return info.total - info.free;
}

std::int64_t available_memory(c10::Device device, std::optional<double> limit) {
  const auto stats = c10::cuda::CUDACachingAllocator::getDeviceStats(device.index());
  const std::int64_t held = stats.allocated_bytes[0].current;
  const std::int64_t most = memory_info(device).free + stats.reserved_bytes[0].current - held;
  if (!limit) return most;
  return std::min(most, static_cast<std::int64_t>(*limit * (1 << 30)) - held);
}

void synchronize(c10::Device device) {
  if (device.is_cuda()) c10::cuda::device_synchronize();
}

}  // namespace qlora::tensor
