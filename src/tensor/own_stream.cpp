#include "qlora/tensor/own_stream.h"

#include "qlora/kernels/cuda_check.h"

#include <c10/cuda/CUDAGuard.h>

#include <map>
#include <mutex>

namespace qlora::tensor {

c10::cuda::CUDAStream own_stream(StreamUse use, c10::Device device) {
  static std::mutex mutex;
  static std::map<std::pair<StreamUse, c10::DeviceIndex>, cudaStream_t> streams;
  const std::lock_guard lock(mutex);
  cudaStream_t& stream = streams[{use, device.index()}];
  if (stream == nullptr) {
    const c10::cuda::CUDAGuard guard(device);
    QLORA_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  }
  return c10::cuda::getStreamFromExternal(stream, device.index());
}

}  // namespace qlora::tensor
