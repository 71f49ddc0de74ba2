#pragma once
// Inputs, guarded memory and golden tensors for the tests of the kernels.

#include "kernels/simd.h"
#include "qlora/base/dtype.h"
#include "support/test_data.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstring>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace qlora::kernels::test {

inline constexpr DType kFloatTypes[] = {DType::Float32, DType::Float16, DType::BFloat16};

// n float32 values of both signs around zero whose magnitudes vary by block; a pure function of
// (seed, n).
std::vector<float> random_floats(std::uint64_t seed, std::int64_t n, float scale = 1);

// Bytes between two guards. The payload starts 16-byte aligned, or `misalign` bytes after that.
class Guarded {
 public:
  explicit Guarded(std::int64_t bytes, std::int64_t misalign = 0);
  ~Guarded();  // fails the running test where a guard byte has changed
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;

  template <class T = void>
  T* data() {
    return reinterpret_cast<T*>(payload().data());
  }
  std::span<std::byte> payload() {
    return {memory_.data() + first_, static_cast<std::size_t>(size_)};
  }
  std::span<const std::byte> payload() const {
    return {memory_.data() + first_, static_cast<std::size_t>(size_)};
  }

 private:
  std::vector<std::byte> memory_;
  std::int64_t first_ = 0;
  std::int64_t size_ = 0;
};

// The values rounded to `dtype`, as bytes; and one element of such bytes as float32.
std::vector<std::byte> to_bytes(std::span<const float> values, DType dtype);
float element(const void* data, DType dtype, std::int64_t i);
// float32 rounded to `dtype` and back.
float rounded(float value, DType dtype);

// Runs the portable paths while it lives.
class PortableScope {
 public:
  PortableScope() { force_portable(true); }
  ~PortableScope() { force_portable(false); }
};

template <class T>
std::vector<T> copy_of(std::span<const std::byte> bytes) {
  std::vector<T> result(bytes.size() / sizeof(T));
  if (!bytes.empty()) std::memcpy(result.data(), bytes.data(), result.size() * sizeof(T));
  return result;
}

std::vector<std::byte> copy_of(std::span<const std::byte> bytes);

// Index of the first differing byte, or -1; sizes count too.
std::int64_t first_difference(std::span<const std::byte> a, std::span<const std::byte> b);

// The tensors of a safetensors file, as bytes. No checks: goldens only.
std::map<std::string, std::vector<std::byte>> read_goldens(const std::string& name);

}  // namespace qlora::kernels::test
