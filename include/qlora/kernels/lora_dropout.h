#pragma once
// The products of LoRA factors with dropped inputs. The linear layers of a group share their input
// (augmented_weight.h), but each drops it by a mask of its own, so no single product serves them:
//
//   reduce        out[t, i] = sum over c of drop_i(x[t, c]) · A[i, c]
//   expand        dx[t, c]  = sum over parts of drop_i(sum over the part's i of g[t, i] · A[i, c])
//   accumulate_a  dA[i, c] += sum over t of g[t, i] · drop_i(x[t, c])
//
// c: features of the input, t: tokens, i: ranks, drop_i: by the key of the part that i belongs to.
// Masks follow dropout.h and are computed where they are used, never stored. reduce and
// accumulate_a round drop_i(x) to the element type, as dropout does. Sums are in float32 and in an
// order of their own in each twin; reduce and expand round once. The twins therefore lie up to one
// unit in the last place apart, plus 1e-5 of the sum of the terms' magnitudes.

#include "qlora/kernels/augmented_weight.h"
#include "qlora/kernels/dropout.h"

namespace qlora::kernels {

// A group of linear layers whose adapters drop their input. Ranks are laid out as in
// AugmentedGroup: a part's first is a multiple of kRankUnit, and so are the ranks it takes, zeros
// behind its own.
struct LoraDropout {
  struct Part {
    std::int64_t first_rank = 0;  // ascending
    std::int64_t rank = 0;        // 0 without an adapter
    PhiloxKey key{};              // philox_key of the layer
  };
  std::int64_t features = 0;  // of the input
  std::int64_t in = 0;        // the same with their padding, a multiple of kAugmentedUnit
  std::int64_t extra = 0;     // rows of a, columns of out and g, a multiple of kRankUnit
  std::size_t count = 0;
  std::array<Part, kMaxParts> parts;
  float p = 0;  // 0 <= p < 1
  ConstRows a;  // [extra, in]; of the rows that no part takes none is read
  // Names (sample_name) and positions of the tokens, as in dropout.h.
  const std::int64_t* samples = nullptr;    // [rows]
  const std::int32_t* positions = nullptr;  // [rows]
};

// For all: `rows` tokens; elements of a, x, g, out and dx: float16, bfloat16 or, in the CPU twins,
// float32; all rows start on 16-byte boundaries. g: [rows, extra], where a part's padding holds
// zeros and columns that no part takes are not read.
namespace cpu {

// x: [rows, in]; out: [rows, extra], zeros where no part is. out may lie behind x in the same rows.
void lora_reduce(const LoraDropout& lora, ConstRows x, DType dtype, std::int64_t rows, Rows out,
                 Stream stream);

// dx: [rows, in], overwritten.
void lora_expand(const LoraDropout& lora, ConstRows g, DType dtype, std::int64_t rows, Rows dx,
                 Stream stream);

// x: [rows, in]; grad_a: float32 [ranks of all parts with their padding, features]; the padding is
// not touched.
void lora_accumulate_a(const LoraDropout& lora, ConstRows g, ConstRows x, DType dtype,
                       std::int64_t rows, float* grad_a, Stream stream);

}  // namespace cpu

// For GPUs of compute capability 8.0 and above.
namespace cuda {

void lora_reduce(const LoraDropout& lora, ConstRows x, DType dtype, std::int64_t rows, Rows out,
                 Stream stream);

void lora_expand(const LoraDropout& lora, ConstRows g, DType dtype, std::int64_t rows, Rows dx,
                 Stream stream);

void lora_accumulate_a(const LoraDropout& lora, ConstRows g, ConstRows x, DType dtype,
                       std::int64_t rows, float* grad_a, Stream stream);

}  // namespace cuda
}  // namespace qlora::kernels
