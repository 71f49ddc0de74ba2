#pragma once
// The scale of a run of floats on the host.

#include <cstdint>

namespace qlora::kernels {

// The largest |x[i]|; NaN is passed over.
float largest_magnitude(const float* x, std::int64_t n);

}  // namespace qlora::kernels
