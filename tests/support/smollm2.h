#pragma once
// SmolLM2-135M-Instruct as tools/setup fetches it, and the numbers that its goldens start from.

#include "support/test_data.h"

#include <ATen/ATen.h>

#include <cstdint>

namespace qlora::test {

inline std::filesystem::path smollm2_path() {
  return source_path("models/SmolLM2-135M-Instruct.Q4_1.gguf");
}

// Element e of stream s in [-1, 1), the same in every language (tests/data/README.md).
inline float reproducible_uniform(std::uint64_t stream, std::uint64_t element) {
  std::uint64_t z = ((stream + 1) << 40) + element;
  z += 0x9E3779B97F4A7C15ull;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  z ^= z >> 31;
  return (static_cast<float>(z >> 40) - 0x1p23f) * 0x1p-23f;
}

inline void fill_uniform(const at::Tensor& tensor, std::uint64_t stream, float scale) {
  const at::NoGradGuard no_grad;
  at::Tensor values = at::empty(tensor.sizes(), at::kFloat);
  float* out = values.mutable_data_ptr<float>();
  for (std::int64_t e = 0; e < values.numel(); ++e) {
    out[e] = reproducible_uniform(stream, static_cast<std::uint64_t>(e)) * scale;
  }
  tensor.copy_(values);
}

}  // namespace qlora::test
