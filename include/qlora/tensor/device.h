#pragma once
// Which device a program runs on, and how much memory it holds there.

#include <c10/core/Device.h>

#include <cstdint>
#include <optional>
#include <string_view>

namespace qlora::tensor {

// "auto" (a GPU where there is one), "cpu" or "cuda"; throws Error where it cannot be had. On a GPU
// it makes the context, from where on program_memory counts.
c10::Device choose_device(std::string_view name);

// Peak bytes that this process held: the allocator's reserve on a GPU, the resident set on a CPU.
std::int64_t peak_memory(c10::Device device);

// Bytes taken on a GPU since choose_device made the context: tensors, the allocator's reserve, code
// of kernels and libraries, graphs. Where others use the GPU at the same time, theirs as well.
std::int64_t program_memory(c10::Device device);

// Bytes that are taken by tensors on a GPU.
std::int64_t tensor_memory(c10::Device device);

// Bytes that this process may still take on a GPU: what is free there or in the allocator's
// reserve; with a limit (GiB of program_memory) what that leaves, the reserve counted as taken,
// since its gaps need not fit.
std::int64_t available_memory(c10::Device device, std::optional<double> limit);

// Gives the allocator's reserve that no tensor has back to the GPU.
void release_cached_memory(c10::Device device);

// Waits until the device has finished all work; returns at once on the CPU.
void synchronize(c10::Device device);

}  // namespace qlora::tensor
