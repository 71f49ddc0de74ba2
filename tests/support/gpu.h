#pragma once
// What a test of a CUDA path does where there is no GPU.

#include "support/test_data.h"

#include <c10/cuda/CUDAFunctions.h>

#define QLORA_REQUIRE_GPU()                                   \
  do {                                                        \
    if (c10::cuda::device_count() == 0) {                     \
      if (::qlora::test::must_not_skip()) FAIL() << "no GPU"; \
      GTEST_SKIP() << "no GPU on this machine";               \
    }                                                         \
  } while (false)
