#pragma once
// The GPU that tests of CUDA paths run on, and what they do where there is none.

#include "support/test_data.h"

#include <c10/core/Device.h>
#include <c10/cuda/CUDAFunctions.h>

namespace qlora::test {

inline const c10::Device kGpu(c10::kCUDA, 0);

}  // namespace qlora::test

#define QLORA_REQUIRE_GPU()                                   \
  do {                                                        \
    if (c10::cuda::device_count() == 0) {                     \
      if (::qlora::test::must_not_skip()) FAIL() << "no GPU"; \
      GTEST_SKIP() << "no GPU on this machine";               \
    }                                                         \
  } while (false)
