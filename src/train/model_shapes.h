#pragma once
// The sizes of real models that benchmarks stand in for, from the config.json that their authors
// published; EXAONE differs from Llama in names alone.

#include "qlora/base/error.h"

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <string_view>

namespace qlora::train {

struct ModelShape {
  std::string_view name, model_type;
  std::int64_t hidden, intermediate, layers, heads, key_heads, head_dim, vocabulary, context;
  double rope_theta;
  bool tied;

  std::int64_t query_size() const { return heads * head_dim; }
  std::int64_t key_size() const { return key_heads * head_dim; }
};

inline constexpr ModelShape kModelShapes[] = {
    {"exaone-3.5-2.4b", "llama", 2560, 7168, 30, 32, 8, 80, 102400, 32768, 1e6, true},
    {"llama-2-7b", "llama", 4096, 11008, 32, 32, 32, 128, 32000, 4096, 1e4, false},
    {"llama-3-8b", "llama", 4096, 14336, 32, 32, 8, 128, 128256, 8192, 5e5, false},
    {"qwen3-8b", "qwen3", 4096, 12288, 36, 32, 8, 128, 151936, 40960, 1e6, false},
};

inline const ModelShape& model_shape(std::string_view name) {
  const auto* shape = std::ranges::find(kModelShapes, name, &ModelShape::name);
  QLORA_ASSERT(shape != std::end(kModelShapes));
  return *shape;
}

}  // namespace qlora::train
