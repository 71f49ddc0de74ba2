#pragma once
// Data parallelism of the CPU kernels. Torch-free code calls parallel_for; a program that also
// uses LibTorch routes it to LibTorch's own threads (two pools would fight for the same cores).

#include <cstdint>
#include <functional>

namespace qlora {

using RangeFunction = std::function<void(std::int64_t begin, std::int64_t end)>;

// Calls body on disjoint ranges that cover [0, n), each at least `grain` long (the last may be
// shorter), possibly at the same time. Returns when all are done. The split never changes results
// of code that treats elements independently. An exception of the body is rethrown.
void parallel_for(std::int64_t n, std::int64_t grain, const RangeFunction& body);

// Replaces the default implementation (std::thread, one per core).
using ParallelBackend = void (*)(std::int64_t n, std::int64_t grain, const RangeFunction& body);
void set_parallel_backend(ParallelBackend backend);

}  // namespace qlora
