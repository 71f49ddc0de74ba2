#pragma once

#include <cstdint>

namespace qlora::run {

// Bytes that this process may still take: what Linux calls available, within its control group.
// Without Linux's files: no limit is known, and the largest number comes back.
std::int64_t available_host_memory();

}  // namespace qlora::run
