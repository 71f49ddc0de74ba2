#pragma once
// Turns a failed call of the CUDA runtime into an Error.

namespace qlora::kernels {

// status: a cudaError_t. Throws Error "CALL failed: REASON" unless it is cudaSuccess.
void check_cuda(int status, const char* call);

// Throws Error where the kernel just launched was refused.
void check_launch(const char* kernel);

}  // namespace qlora::kernels

#define QLORA_CUDA(call) ::qlora::kernels::check_cuda(static_cast<int>(call), #call)
