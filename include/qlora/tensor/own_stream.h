#pragma once

#include <c10/cuda/CUDAStream.h>

namespace qlora::tensor {

enum class StreamUse { Recording, PagesIn, PagesOut };

// The device's stream for one use, made at the first call. It lives as long as the program, since
// LibTorch's allocators ask about streams that have used their memory until that is freed. (The
// first stream out of LibTorch's own pool makes the whole pool, some 70 MiB of device memory.)
c10::cuda::CUDAStream own_stream(StreamUse use, c10::Device device);

}  // namespace qlora::tensor
