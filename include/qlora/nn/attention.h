#pragma once
// Causal self-attention over heads, and the cache of keys and values that generation keeps.

#include <ATen/core/Tensor.h>

#include <vector>

namespace qlora::nn {

// Keys and values of every layer for up to `capacity` positions.
class KvCache {
 public:
  KvCache(std::int64_t layers, std::int64_t capacity);

  // Positions that every layer already holds.
  std::int64_t length() const { return length_; }
  std::int64_t capacity() const { return capacity_; }

  // k, v: [batch, S, heads, D] of the positions after length(). Stores them and returns all
  // positions so far, in the same layout.
  std::pair<at::Tensor, at::Tensor> append(std::int64_t layer, const at::Tensor& k,
                                           const at::Tensor& v);
  // After every layer has appended S positions.
  void advance(std::int64_t positions) { length_ += positions; }

 private:
  struct Layer {
    at::Tensor k;
    at::Tensor v;
  };
  std::vector<Layer> layers_;
  std::int64_t capacity_;
  std::int64_t length_ = 0;
};

// q: [batch, S, query heads, D]; k, v: [batch, P + S, key heads, D], where P positions came before.
// A query sees itself and everything before it. Groups of query heads share one key head.
// result: [batch, S, query heads · D].
at::Tensor causal_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v);

// The same where rows hold several documents (ForwardContext::documents) and no positions came
// before: a query sees its own document alone.
at::Tensor causal_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                            const std::vector<std::int64_t>& documents);

}  // namespace qlora::nn
