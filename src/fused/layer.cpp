#include "qlora/fused/layer.h"

#include "qlora/base/narrow.h"

#include <algorithm>

namespace qlora::fused {
namespace {

std::int64_t padded(std::int64_t features) { return round_up(features, kernels::kAugmentedUnit); }

}  // namespace

std::int64_t LayerShape::padded_intermediate() const { return padded(intermediate); }

std::int64_t LayerShape::normed_stride() const {
  return padded(hidden) + std::max(extra[kQkv], extra[kGateUp]);
}

std::int64_t LayerShape::qkv_stride() const { return qkv_size() + extra[kQkv]; }

std::int64_t LayerShape::attended_stride() const { return query_size() + extra[kOut]; }

std::int64_t LayerShape::gate_up_stride() const {
  return 2 * padded_intermediate() + extra[kGateUp];
}

std::int64_t LayerShape::activated_stride() const { return padded_intermediate() + extra[kDown]; }

std::int64_t LayerShape::gradient_stride() const {
  return padded(hidden) + std::max(extra[kOut], extra[kDown]);
}

std::int64_t LayerShape::turned_stride() const { return (query_heads + key_heads) * head_dim; }

kernels::AttentionShape LayerShape::attention(std::int64_t tokens, std::int64_t documents,
                                              std::int64_t longest) const {
  const std::int64_t turned = head_norm ? turned_stride() : qkv_stride();
  return {.dtype = dtype,
          .query_heads = query_heads,
          .key_heads = key_heads,
          .head_dim = head_dim,
          .slots = documents,
          .longest = longest,
          .tokens = tokens,
          .strides = {.q = turned,
                      .k = turned,
                      .v = qkv_stride(),
                      .o = attended_stride(),
                      .d_o = query_size(),
                      .d_q = qkv_stride(),
                      .d_k = qkv_stride(),
                      .d_v = qkv_stride()}};
}

}  // namespace qlora::fused
