#include "qlora/kernels/keyed_noise.h"

#include "keyed_noise_math.h"
#include "launch.cuh"

namespace qlora::kernels::cuda {
namespace {

constexpr int kThreads = 128;

// One thread per four features of a row.
template <class T>
__global__ void keyed_noise_kernel(std::int64_t cols, const std::int64_t* samples,
                                   const std::int64_t* positions, const float* scales,
                                   PhiloxKey key, T* out) {
  const std::int64_t row = blockIdx.x;
  const std::int64_t feature = (std::int64_t{blockIdx.y} * kThreads + threadIdx.x) * 4;
  if (feature >= cols) return;
  const Philox4 random = row_words(feature / 4, samples[row], positions[row], key);
  for (int j = 0; j < 4 && feature + j < cols; ++j) {
    out[row * cols + feature + j] = from_float<T>(noise(random.words[j], scales[row]));
  }
}

}  // namespace

void keyed_noise(DType dtype, std::int64_t rows, std::int64_t cols, const std::int64_t* samples,
                 const std::int64_t* positions, const float* scales, const DropoutKey& key,
                 void* out, Stream stream) {
  if (rows == 0 || cols == 0) return;
  const PhiloxKey row_key = philox_key(key);
  with_element(dtype, "keyed_noise", [&](auto element) {
    using T = decltype(element);
    const dim3 grid(static_cast<unsigned>(rows), grid_for(cols, 4 * kThreads));
    keyed_noise_kernel<<<grid, kThreads, 0, as_cuda(stream)>>>(cols, samples, positions, scales,
                                                               row_key, static_cast<T*>(out));
  });
  check_launch("keyed_noise");
}

}  // namespace qlora::kernels::cuda
