#pragma once
// Whether the CPU kernels may take their AVX2 paths, which give the same bits as the portable ones.

#if defined(__x86_64__)
#define QLORA_AVX2 __attribute__((target("avx2,f16c")))
#endif

namespace qlora::kernels {

// True where the processor has AVX2 and F16C, unless a test has asked for the portable paths.
bool use_avx2();

// For tests. Not to be changed while kernels run.
void force_portable(bool portable);

}  // namespace qlora::kernels
