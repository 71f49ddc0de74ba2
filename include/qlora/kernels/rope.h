#pragma once
// Rotary position embedding (Su et al., "RoFormer", 2021) in the rotate-half layout of Llama, on
// the packed output of the query, key and value projections, and with it the RMSNorm of each head
// that Qwen3 puts before it.
//
// Feature i of a head turns together with feature i + head_dim / 2, by the angle of the token's
// position:
//   out[i]     = x[i] cos - x[i + D/2] sin
//   out[i+D/2] = x[i + D/2] cos + x[i] sin
// The gradient of x is the gradient of out turned back.
//
// Arithmetic is float32 with one rounding, at the output. rope gives the same bits on both twins;
// the head norms sum in different orders: their results agree to 2e-6 of the row's largest, and
// 16-bit ones to one unit in the last place besides.
//
// head_dim is a multiple of 8, at most 256; the data of rows and of weights, cos and sin start on
// 16-byte boundaries and strides are multiples of 8. 16-bit types are read by 16-byte accesses
// where head_dim is a multiple of 16, else by slower ones.

#include "qlora/kernels/types.h"

namespace qlora::kernels {

inline constexpr std::int64_t kMaxHeadDim = 256;

// Columns [0, heads * head_dim) of a row are one token's heads: the query's, then the key's.
struct HeadShape {
  std::int64_t tokens = 0;
  std::int64_t heads = 0;
  std::int64_t head_dim = 0;
};

struct RopeAngles {
  const std::int32_t* positions = nullptr;  // [tokens], rows of cos and sin
  const float* cos = nullptr;               // [positions, head_dim / 2]
  const float* sin = nullptr;               // [positions, head_dim / 2]
};

enum class RopeDirection : std::uint8_t { Forward, Backward };

// Weights are of the rows' type.
struct HeadNorm {
  const void* query_weight = nullptr;  // [head_dim]
  const void* key_weight = nullptr;    // [head_dim]
  std::int64_t query_heads = 0;        // the first heads; the others are the key's
  float eps = 1e-6f;
};

namespace cpu {

// x, out: float32, float16 or bfloat16; out may be x. Columns right of the heads are left alone.
void rope(ConstRows x, DType dtype, const HeadShape& shape, const RopeAngles& angles,
          RopeDirection direction, Rows out, Stream stream);

// out = rope(rms_norm of each head of x)
void head_norm_rope(ConstRows x, DType dtype, const HeadShape& shape, const HeadNorm& norm,
                    const RopeAngles& angles, Rows out, Stream stream);

// dx: the gradient of x, which is the forward's input, from dy, that of its output; dx may be dy
// or x.
void head_norm_rope_backward(ConstRows dy, ConstRows x, DType dtype, const HeadShape& shape,
                             const HeadNorm& norm, const RopeAngles& angles, Rows dx,
                             Stream stream);

}  // namespace cpu

namespace cuda {

void rope(ConstRows x, DType dtype, const HeadShape& shape, const RopeAngles& angles,
          RopeDirection direction, Rows out, Stream stream);

void head_norm_rope(ConstRows x, DType dtype, const HeadShape& shape, const HeadNorm& norm,
                    const RopeAngles& angles, Rows out, Stream stream);

void head_norm_rope_backward(ConstRows dy, ConstRows x, DType dtype, const HeadShape& shape,
                             const HeadNorm& norm, const RopeAngles& angles, Rows dx,
                             Stream stream);

}  // namespace cuda
}  // namespace qlora::kernels
