#pragma once
// The rule by which index_documents fills its arrays.

#include "qlora/base/philox.h"
#include "qlora/kernels/attention.h"

namespace qlora::kernels {

struct OffsetStrides {
  std::int64_t values[kDocumentOffsets];
};

// Elements of one token in each tensor, in the order of Documents::offsets.
inline OffsetStrides offset_strides(const AttentionShape& shape) {
  const AttentionStrides& s = shape.strides;
  return {{s.q, s.k, s.v, s.o, s.d_o, s.d_q, s.d_k, s.d_v, shape.query_heads}};
}

// Slot `i` of `slots`; i = slots stands for the end.
QLORA_HOST_DEVICE inline void index_document(const OffsetStrides& strides, std::int64_t slots,
                                             std::int64_t i, const Documents& documents) {
  const std::int64_t start = documents.starts[i];
  if (i < slots) {
    documents.lengths[i] = static_cast<std::int32_t>(documents.starts[i + 1] - start);
  }
  for (std::int64_t tensor = 0; tensor < kDocumentOffsets; ++tensor) {
    documents.offsets[tensor * (slots + 1) + i] = start * strides.values[tensor];
  }
}

}  // namespace qlora::kernels
