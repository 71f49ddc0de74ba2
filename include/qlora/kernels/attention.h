#pragma once
// Causal attention over documents packed one behind the other, forward and backward, on CUDA alone:
// the CPU runs nn/attention.h, which is the reference.
//
//   O = softmax(mask(Q·Kᵀ / sqrt(D)))·V   within each document; a token sees itself and the tokens
//                                          of its document that come before it
//
// T: rows of every tensor (the token budget)   H, Hk: query and key heads, Hk divides H   D: head
// Documents fill the rows from 0 on, none between them; what lies behind the last is not read by
// the attention of any document and not written.

#include "qlora/kernels/types.h"

#include <memory>
#include <optional>
#include <string>

namespace qlora::kernels {

// Elements from one token's row to the next; each a multiple of 8. q, k and v may be columns of one
// buffer.
struct AttentionStrides {
  std::int64_t q = 0, k = 0, v = 0, o = 0;
  std::int64_t d_o = 0, d_q = 0, d_k = 0, d_v = 0;
};

// What an attention object is made for, once; the documents may then change with every call.
struct AttentionShape {
  DType dtype = DType::BFloat16;  // or Float16
  std::int64_t query_heads = 0;   // H
  std::int64_t key_heads = 0;     // Hk
  std::int64_t head_dim = 0;      // D
  std::int64_t slots = 0;         // most documents
  std::int64_t longest = 0;       // most tokens of a document, at least 2
  std::int64_t tokens = 0;        // T
  AttentionStrides strides;
};

// Why no attention can be had for this shape, or nothing.
std::optional<std::string> attention_shape_problem(const AttentionShape& shape);

// Where the documents of a packed batch lie, in device memory; the same for all layers.
struct Documents {
  const std::int32_t* starts = nullptr;  // [slots + 1] first rows, then the end; an empty slot
                                         // starts where the next one does
  std::int32_t* lengths = nullptr;       // [slots] tokens
  std::int64_t* offsets = nullptr;  // [kDocumentOffsets, slots + 1] starts in elements of q, k,
                                    // v, o, d_o, d_q, d_k, d_v and stats
};
inline constexpr std::int64_t kDocumentOffsets = 9;

// Fills lengths and offsets from starts.
namespace cpu {
void index_documents(const AttentionShape& shape, const Documents& documents, Stream stream);
}
namespace cuda {
void index_documents(const AttentionShape& shape, const Documents& documents, Stream stream);
}

// Device memory, 16-byte aligned.
struct AttentionTensors {
  const void* q = nullptr;    // [T, H, D]
  const void* k = nullptr;    // [T, Hk, D]
  const void* v = nullptr;    // [T, Hk, D]
  void* o = nullptr;          // [T, H, D]; forward writes it, backward reads it
  float* stats = nullptr;     // [T·H], for the backward of the same object; likewise
  const void* d_o = nullptr;  // [T, H, D]; this and what follows: backward alone
  void* d_q = nullptr;        // [T, H, D]
  void* d_k = nullptr;        // [T, Hk, D]
  void* d_v = nullptr;        // [T, Hk, D]
};

// One object serves all layers of one shape, one call at a time. Calls queue on `stream` and wait
// for nothing. Where a CUDA graph records them, the object must outlive the graph.
class PackedAttention {
 public:
  virtual ~PackedAttention() = default;

  // Bytes of device memory that each call takes as `workspace`, 256-byte aligned.
  virtual std::int64_t workspace_bytes() const = 0;
  // Most bytes that a call takes from LibTorch's allocator besides and gives back.
  virtual std::int64_t allocated_bytes() const = 0;

  virtual void forward(const AttentionTensors& tensors, const Documents& documents, void* workspace,
                       Stream stream) = 0;
  virtual void backward(const AttentionTensors& tensors, const Documents& documents,
                        void* workspace, Stream stream) = 0;
};

namespace cuda {

// Attention by cuDNN. The forward gives equal bits in every run; the backward adds up d_q by
// atomics, in no fixed order.

// Why cuDNN cannot compute this shape on the current device, or nothing. Takes about 0.1 s.
std::optional<std::string> cudnn_attention_problem(const AttentionShape& shape);

// Compiles the kernels for the current device, which takes seconds. Throws Error where cuDNN
// cannot compute the shape.
std::unique_ptr<PackedAttention> make_cudnn_attention(const AttentionShape& shape);

}  // namespace cuda
}  // namespace qlora::kernels
