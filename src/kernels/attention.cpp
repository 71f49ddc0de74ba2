#include "qlora/kernels/attention.h"

#include "attention_layout.h"
#include "qlora/base/error.h"

#include <algorithm>

namespace qlora::kernels {

std::optional<std::string> attention_shape_problem(const AttentionShape& shape) {
  if (shape.dtype != DType::BFloat16 && shape.dtype != DType::Float16) {
    return fmt::format("expected bfloat16 or float16 elements, got {}", name_of(shape.dtype));
  }
  if (shape.key_heads < 1 || shape.query_heads < 1 || shape.query_heads % shape.key_heads != 0) {
    return fmt::format("expected key heads that divide the query heads, got {} and {}",
                       shape.key_heads, shape.query_heads);
  }
  if (shape.head_dim < 8 || shape.head_dim % 8 != 0) {
    return fmt::format("expected a head of a multiple of 8, got {}", shape.head_dim);
  }
  if (shape.slots < 1 || shape.longest < 2 || shape.tokens < shape.longest) {
    return fmt::format("expected documents of 2 to {} tokens, got {} slots of up to {}",
                       shape.tokens, shape.slots, shape.longest);
  }
  const AttentionStrides& s = shape.strides;
  const auto too_small = [&](std::initializer_list<std::int64_t> strides, std::int64_t heads) {
    return std::min(strides) < heads * shape.head_dim;
  };
  if (too_small({s.q, s.o, s.d_o, s.d_q}, shape.query_heads) ||
      too_small({s.k, s.v, s.d_k, s.d_v}, shape.key_heads)) {
    return "expected strides of at least heads times head_dim";
  }
  if ((s.q | s.k | s.v | s.o | s.d_o | s.d_q | s.d_k | s.d_v) % 8 != 0) {
    return "expected strides that are multiples of 8";
  }
  return std::nullopt;
}

namespace cpu {

void index_documents(const AttentionShape& shape, const Documents& documents, Stream) {
  const OffsetStrides strides = offset_strides(shape);
  for (std::int64_t i = 0; i <= shape.slots; ++i) {
    index_document(strides, shape.slots, i, documents);
  }
}

}  // namespace cpu
}  // namespace qlora::kernels
