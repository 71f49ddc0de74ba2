#include "qlora/nn/attention.h"

#include "qlora/base/error.h"

#include <optional>

namespace qlora::nn {

KvCache::KvCache(std::int64_t layers, std::int64_t capacity)
    : layers_(static_cast<std::size_t>(layers)), capacity_(capacity) {}

std::pair<at::Tensor, at::Tensor> KvCache::append(std::int64_t layer, const at::Tensor& k,
                                                  const at::Tensor& v) {
  const std::int64_t end = length_ + k.size(1);
  QLORA_ASSERT(end <= capacity_);
  Layer& kept = layers_.at(static_cast<std::size_t>(layer));
  if (!kept.k.defined()) {
    const std::vector<std::int64_t> shape{k.size(0), capacity_, k.size(2), k.size(3)};
    kept.k = at::empty(shape, k.options());
    kept.v = at::empty(shape, v.options());
  }
  kept.k.slice(1, length_, end).copy_(k);
  kept.v.slice(1, length_, end).copy_(v);
  return {kept.k.slice(1, 0, end), kept.v.slice(1, 0, end)};
}

at::Tensor causal_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  const std::int64_t queries = q.size(1);
  const std::int64_t before = k.size(1) - queries;
  std::optional<at::Tensor> mask;
  if (before > 0 && queries > 1) {
    mask = at::ones({queries, k.size(1)}, q.options().dtype(at::kBool)).tril(before);
  }
  const bool is_causal = before == 0 && queries > 1;
  const bool grouped = q.size(2) != k.size(2);
  const at::Tensor y = at::scaled_dot_product_attention(
      q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), mask, /*dropout_p=*/0.0, is_causal,
      /*scale=*/std::nullopt, grouped);
  return y.transpose(1, 2).reshape({q.size(0), queries, q.size(2) * q.size(3)});
}

at::Tensor causal_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                            const std::vector<std::int64_t>& documents) {
  // All rows as one, cut into documents: the gradient of a split is one concatenation.
  const auto split = [&](const at::Tensor& x) {
    return x.flatten(0, 1).unsqueeze(0).split_with_sizes(documents, 1);
  };
  const std::vector<at::Tensor> queries = split(q), keys = split(k), values = split(v);
  std::vector<at::Tensor> parts;
  for (std::size_t i = 0; i < documents.size(); ++i) {
    parts.push_back(causal_attention(queries[i], keys[i], values[i]));
  }
  return at::cat(parts, 1).view({q.size(0), q.size(1), q.size(2) * q.size(3)});
}

}  // namespace qlora::nn
