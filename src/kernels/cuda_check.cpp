#include "qlora/kernels/cuda_check.h"

#include "qlora/base/error.h"

#include <cuda_runtime_api.h>

namespace qlora::kernels {

void check_cuda(int status, const char* call) {
  if (status == cudaSuccess) return;
  const auto error = static_cast<cudaError_t>(status);
  fail("{} failed: {} ({})", call, cudaGetErrorString(error), cudaGetErrorName(error));
}

void check_launch(const char* kernel) { check_cuda(cudaGetLastError(), kernel); }

}  // namespace qlora::kernels
