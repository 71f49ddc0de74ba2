#include "qlora/tensor/device.h"

#include "qlora/base/error.h"
#include "qlora/kernels/cuda_check.h"

#include <c10/core/AllocatorConfig.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>
#include <cuda_runtime_api.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstdlib>

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

std::int64_t used_memory(c10::Device device) {
  const MemoryInfo info = memory_info(device);
  return info.total - info.free;
}

// What was taken when the context had been made.
std::int64_t& base_memory() {
  static std::int64_t bytes = 0;
  return bytes;
}

// Segments that grow leave no gaps between tensors of many sizes; a setting of the user's goes
// first.
void configure_allocator() {
  for (const char* name : {"PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"}) {
    if (std::getenv(name) != nullptr) return;
  }
  c10::CachingAllocator::setAllocatorSettings("expandable_segments:True");
}

// Bytes of the allocator's reserve that no tensor has.
std::int64_t cached_memory(c10::Device device) {
  const auto stats = c10::cuda::CUDACachingAllocator::getDeviceStats(device.index());
  return stats.reserved_bytes[0].current - stats.allocated_bytes[0].current;
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
  const c10::Device device(c10::kCUDA, 0);
  configure_allocator();
  base_memory() = used_memory(device);
  return device;
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

std::int64_t program_memory(c10::Device device) { return used_memory(device) - base_memory(); }

std::int64_t tensor_memory(c10::Device device) {
  const auto stats = c10::cuda::CUDACachingAllocator::getDeviceStats(device.index());
  return stats.allocated_bytes[0].current;
}

std::int64_t available_memory(c10::Device device, std::optional<double> limit) {
  const std::int64_t most = memory_info(device).free + cached_memory(device);
  if (!limit) return most;
  const auto allowed = static_cast<std::int64_t>(*limit * (1 << 30));
  return std::min(most, allowed - program_memory(device));
}

void release_cached_memory(c10::Device device) {
  if (device.is_cuda()) c10::cuda::CUDACachingAllocator::emptyCache();
}

void synchronize(c10::Device device) {
  if (device.is_cuda()) c10::cuda::device_synchronize();
}

}  // namespace qlora::tensor
