#pragma once
// Which device a program runs on, and how much memory it holds there.

#include <c10/core/Device.h>

#include <cstdint>
#include <optional>
#include <string_view>

namespace qlora::tensor {

// "auto" (a GPU where there is one), "cpu" or "cuda"; throws Error where it cannot be had.
c10::Device choose_device(std::string_view name);

// Peak bytes that this process held: the allocator's reserve on a GPU, the resident set on a CPU.
std::int64_t peak_memory(c10::Device device);

// Bytes that are taken on a GPU, by any process.
std::int64_t used_memory(c10::Device device);

// Bytes that this process may still take on a GPU: what is free there or in the allocator's
// reserve, or as far as `limit` (GiB, of all that the allocator holds) lets it.
std::int64_t available_memory(c10::Device device, std::optional<double> limit);

// Waits until the device has finished all work; returns at once on the CPU.
void synchronize(c10::Device device);

}  // namespace qlora::tensor
