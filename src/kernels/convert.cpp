#include "convert.h"

#include "simd.h"

#include <cstring>

namespace qlora::kernels {
namespace {

template <class T>
void load(const T* x, std::int64_t n, float* out) {
  for (std::int64_t i = use_avx2() ? avx2::load(x, n, out) : 0; i < n; ++i) out[i] = to_float(x[i]);
}

template <class T>
void store(const float* values, std::int64_t n, T* x) {
  for (std::int64_t i = use_avx2() ? avx2::store(values, n, x) : 0; i < n; ++i) {
    x[i] = from_float<T>(values[i]);
  }
}

void load(const float* x, std::int64_t n, float* out) {
  std::memcpy(out, x, static_cast<std::size_t>(n) * sizeof(float));
}

void store(const float* values, std::int64_t n, float* x) {
  std::memcpy(x, values, static_cast<std::size_t>(n) * sizeof(float));
}

}  // namespace

void load_floats(DType dtype, const void* x, std::int64_t first, std::int64_t n, float* out) {
  with_element(dtype, "load_floats", [&](auto element) {
    load(static_cast<const decltype(element)*>(x) + first, n, out);
  });
}

void store_floats(DType dtype, const float* values, std::int64_t n, void* x, std::int64_t first) {
  with_element(dtype, "store_floats",
               [&](auto element) { store(values, n, static_cast<decltype(element)*>(x) + first); });
}

}  // namespace qlora::kernels
