#pragma once
// One packed batch of documents on the device, and the same attention by plain loops in double.

#include "kernels/gpu_support.h"
#include "qlora/kernels/attention.h"

#include <memory>

namespace qlora::kernels::test {

// Dense, in double: [T, heads, D] each.
struct AttentionValues {
  std::vector<double> q, k, v, o;
  std::vector<double> d_o, d_q, d_k, d_v;
};

// Fills o, d_q, d_k and d_v; zeros behind the last document.
void reference_attention(const AttentionShape& shape, const std::vector<std::int32_t>& starts,
                         AttentionValues& values);

// Cumulative starts of documents with these lengths.
std::vector<std::int32_t> starts_of(const std::vector<std::int32_t>& lengths);

// q, k and v as columns of one buffer, every row `padding` elements wider than it need be.
AttentionStrides strides_of(const AttentionShape& shape, std::int64_t padding);

// A shape of few heads with documents of odd lengths, some of them empty, and rows to spare.
struct AttentionCase {
  DType dtype = DType::BFloat16;
  std::int64_t query_heads = 4;
  std::int64_t key_heads = 4;
  std::int64_t head_dim = 64;
  std::int64_t padding = 0;
  std::vector<std::int32_t> lengths = {37, 1, 130, 0, 65, 0, 0};
};
AttentionShape shape_of(const AttentionCase& c);
std::string name_of_case(const AttentionCase& c);
extern const std::vector<AttentionCase> kAttentionCases;

class AttentionBatch {
 public:
  AttentionBatch(const AttentionShape& shape, const std::vector<std::int32_t>& lengths);
  ~AttentionBatch();

  // Replaces the documents, the tokens staying what they are; other outputs stay as they are.
  void set_lengths(const std::vector<std::int32_t>& lengths);
  // Queues index_documents, forward and backward.
  void run(PackedAttention& attention, Stream stream);
  // Waits, and compares with the reference; what no document owns must not have been written.
  void expect_reference(const std::string& where) const;
  // The bytes of o, d_q, d_k and d_v.
  std::vector<std::vector<std::byte>> outputs() const;

 private:
  struct Memory;
  AttentionShape shape_;
  std::vector<std::int32_t> starts_;
  AttentionValues values_;
  std::unique_ptr<Memory> memory_;
};

// What every engine must do for every case.
using MakeAttention = std::unique_ptr<PackedAttention> (*)(const AttentionShape&);
void expect_all_cases(MakeAttention make);
void expect_any_packing(MakeAttention make);

}  // namespace qlora::kernels::test
