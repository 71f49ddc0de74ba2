#include "qlora/kernels/dropout.h"

#include "dropout_math.h"
#include "launch.cuh"
#include "rows.h"

namespace qlora::kernels::cuda {
namespace {

constexpr int kThreads = 128;

// One thread per 16 bytes of a row. kVector: every row starts and ends on a 16-byte boundary.
template <class T, bool kVector>
__global__ void dropout_kernel(const T* x, std::int64_t cols, const std::int64_t* samples,
                               const std::int64_t* positions, DropoutRule rule, T* out) {
  const std::int64_t row = blockIdx.x;
  const std::int64_t feature = (std::int64_t{blockIdx.y} * kThreads + threadIdx.x) * kUnit<T>;
  if (feature >= cols) return;
  const std::int64_t start = row * cols + feature;
  float values[kUnit<T>] = {};
  if constexpr (kVector) {
    load16(x + start, values);
  } else {
    for (int i = 0; i < kUnit<T>; ++i) {
      if (feature + i < cols) values[i] = to_float(x[start + i]);
    }
  }
  const Philox4 random = row_words(feature / kOctet, samples[row], positions[row], rule.key);
  const int first = static_cast<int>(feature % kOctet);
#pragma unroll
  for (int i = 0; i < kUnit<T>; ++i) values[i] = drop(values[i], random, first + i, rule);
  if constexpr (kVector) {
    store16(values, out + start);
  } else {
    for (int i = 0; i < kUnit<T>; ++i) {
      if (feature + i < cols) out[start + i] = from_float<T>(values[i]);
    }
  }
}

}  // namespace

void dropout(const void* x, DType dtype, std::int64_t rows, std::int64_t cols,
             const std::int64_t* samples, const std::int64_t* positions, const DropoutKey& key,
             float p, void* out, Stream stream) {
  const DropoutRule rule = dropout_rule(philox_key(key), p);
  if (rows == 0 || cols == 0) return;
  with_element(dtype, "dropout", [&](auto element) {
    using T = decltype(element);
    const bool aligned = rows_are_aligned<T>(cols, {{x, cols}, {out, cols}});
    const auto kernel = aligned ? &dropout_kernel<T, true> : &dropout_kernel<T, false>;
    const dim3 grid(static_cast<unsigned>(rows), grid_for(cols, kThreads * kUnit<T>));
    kernel<<<grid, kThreads, 0, as_cuda(stream)>>>(static_cast<const T*>(x), cols, samples,
                                                   positions, rule, static_cast<T*>(out));
  });
  check_launch("dropout");
}

}  // namespace qlora::kernels::cuda
