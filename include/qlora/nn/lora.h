#pragma once
// The low-rank adapter of one linear layer: y += scaling · dropout(x) · Aᵀ · Bᵀ.

#include "qlora/nn/context.h"
#include "qlora/nn/lora_config.h"

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <string_view>

namespace qlora::nn {

struct LoraOptions {
  std::int64_t rank = 8;
  double scaling = 1;  // alpha / r, or alpha / sqrt(r)
  double dropout = 0;
  LoraInit init = LoraInit::Kaiming;
  at::ScalarType dtype = at::kFloat;  // of the stored (master) A and B
};

class LoraAdapter {
 public:
  // `path` (the layer's module path) and `seed` name the random draws.
  LoraAdapter(std::int64_t in_features, std::int64_t out_features, const LoraOptions& options,
              std::string_view path, std::uint64_t seed, c10::Device device);

  // base: [..., out], x: [..., in]; returns base + scaling · dropout(x) · Aᵀ · Bᵀ in base's element
  // type. The last product accumulates onto base before its one rounding.
  at::Tensor add_to(const at::Tensor& base, const at::Tensor& x,
                    const ForwardContext& context) const;

  // scaling · B · A, float32 [out, in] (float64 where A is).
  at::Tensor delta() const;

  double scaling() const { return scaling_; }
  double dropout() const { return dropout_; }
  // Names the layer in the keys of its dropout.
  std::uint64_t module_key() const { return module_key_; }

  at::Tensor a;  // [r, in], trainable
  at::Tensor b;  // [out, r], trainable

 private:
  double scaling_;
  double dropout_;
  std::uint64_t module_key_;
};

}  // namespace qlora::nn
