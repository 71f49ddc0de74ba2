#include "simd.h"

#include <atomic>

namespace qlora::kernels {
namespace {

std::atomic<bool> portable_only = false;

bool processor_has_avx2() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("f16c");
#else
  return false;
#endif
}

}  // namespace

bool use_avx2() {
  static const bool available = processor_has_avx2();
  return available && !portable_only.load(std::memory_order_relaxed);
}

void force_portable(bool portable) { portable_only = portable; }

}  // namespace qlora::kernels
