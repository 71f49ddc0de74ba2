#pragma once
// One decoder layer of the Llama family as the fused path sees it: raw device memory.

#include "qlora/kernels/attention.h"
#include "qlora/kernels/augmented_weight.h"
#include "qlora/kernels/dropout.h"

#include <array>
#include <cstdint>

namespace qlora::fused {

// Linear layers that share their input are one product.
enum Group : std::size_t { kQkv, kOut, kGateUp, kDown, kGroups };

// What the layers of a model have in common.
struct LayerShape {
  std::int64_t hidden = 0;
  std::int64_t query_heads = 0;
  std::int64_t key_heads = 0;
  std::int64_t head_dim = 0;
  std::int64_t intermediate = 0;
  float norm_eps = 1e-5f;
  bool head_norm = false;         // queries and keys are normalized, head by head, before they turn
  DType dtype = DType::BFloat16;  // of weights, activations and adapter copies
  float dropout = 0;              // of the adapters' inputs
  std::array<std::int64_t, kGroups> extra{};     // most extra columns of any layer's group
  std::array<std::int64_t, kGroups> rank_sum{};  // most of them that hold ranks

  std::int64_t query_size() const { return query_heads * head_dim; }
  std::int64_t qkv_size() const { return (query_heads + 2 * key_heads) * head_dim; }
  // The features of gate_proj (and of up_proj) with their padding.
  std::int64_t padded_intermediate() const;

  // Distances of rows, in elements, of the activations [tokens, ...]. Each leaves room behind its
  // features for the products with the adapters that a group's products read along.
  std::int64_t normed_stride() const;     // input of QKV and of gate/up
  std::int64_t qkv_stride() const;        // queries, keys, values, and their gradient
  std::int64_t attended_stride() const;   // input of the output projection
  std::int64_t gate_up_stride() const;    // gate and up, and their gradient
  std::int64_t activated_stride() const;  // input of the down projection
  std::int64_t gradient_stride() const;   // of the residual stream's gradient
  std::int64_t turned_stride() const;     // queries and keys of a head_norm model, turned

  // What an attention engine for these layers is made for.
  kernels::AttentionShape attention(std::int64_t tokens, std::int64_t documents,
                                    std::int64_t longest) const;
};

// Where a group's adapter gradients accumulate, float32.
struct GroupGradients {
  float* a = nullptr;                               // [rank_sum, in], padded ranks
  std::array<float*, kernels::kMaxParts> b{};       // [out, rank] of each part
  std::array<float, kernels::kMaxParts> scaling{};  // of each part, as in its scaled_b
};

struct LayerWeights {
  const void* input_norm = nullptr;           // [hidden]
  const void* post_attention_norm = nullptr;  // [hidden]
  const void* q_norm = nullptr;               // [head_dim], null where the family has none
  const void* k_norm = nullptr;
  std::array<kernels::AugmentedGroup, kGroups> groups;
  std::array<const void*, kGroups> bias{};  // of a group's outputs, null without
  std::array<GroupGradients, kGroups> gradients;
  std::array<std::array<PhiloxKey, kernels::kMaxParts>, kGroups> dropout_keys{};
};

}  // namespace qlora::fused
