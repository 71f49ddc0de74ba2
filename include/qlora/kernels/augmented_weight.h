#pragma once
// The dense matrix that one product of the fused path reads: the weights of linear layers that
// share their input, stacked, with their LoRA factors as extra columns and rows, so that the
// adapter costs no product of its own:
//
//                  in columns      extra columns                y  = [x | x·Aᵀ] · [W | s·B]ᵀ
//   out rows       W               s·B, block-diagonal          dx = [dy | dy·s·B] · [W ; A]
//   extra rows     A               (never read, not written)
//
// Rows and columns are padded with zeros to kAugmentedUnit, each part's rank to kRankUnit, and the
// extra rows and columns to kAdapterUnit.

#include "qlora/kernels/types.h"

#include <array>

namespace qlora::kernels {

inline constexpr std::int64_t kAugmentedUnit = 8;  // elements: 16 bytes
inline constexpr std::int64_t kRankUnit = 16;      // a tile of the tensor cores
inline constexpr std::int64_t kAdapterUnit = 64;   // a tile of a product's inner dimension

// One linear layer of a group. All pointers: device memory (host memory for the CPU twin).
struct AugmentedPart {
  std::int64_t out = 0;  // output features
  // The frozen weight [out, in]: 4-bit, or dense of the output's element type.
  QuantType type = QuantType::NF4;
  const std::uint8_t* packed = nullptr;
  Absmax absmax;
  std::int64_t block = kDefaultBlock;
  const void* dense = nullptr;
  // The adapter in the output's element type; rank 0 without one.
  std::int64_t rank = 0;
  const void* a = nullptr;         // [rank, in]
  const void* scaled_b = nullptr;  // [out, rank], times the scaling
};

inline constexpr std::size_t kMaxParts = 3;

struct AugmentedGroup {
  std::int64_t in = 0;
  std::size_t count = 0;
  std::array<AugmentedPart, kMaxParts> parts;

  std::int64_t padded_in() const;
  std::int64_t padded_out() const;              // rows of all parts
  std::int64_t row_of(std::size_t part) const;  // its first row
  // A part's first extra column, and row; a multiple of kRankUnit.
  std::int64_t rank_before(std::size_t part) const;
  std::int64_t rank_sum() const;  // of the padded ranks
  std::int64_t extra() const;     // extra columns, and rows; 0 without adapters
  std::int64_t stride() const { return padded_in() + extra(); }
  // Of the whole matrix.
  std::int64_t element_count() const { return (padded_out() + extra()) * stride(); }
};

namespace cpu {

// out: element_count() elements of float32, float16 or bfloat16.
void augment_weight(const AugmentedGroup& group, void* out, DType dtype, Stream stream);

}  // namespace cpu

// out: 16-byte aligned; packed, a and scaled_b: 4-byte.
namespace cuda {

void augment_weight(const AugmentedGroup& group, void* out, DType dtype, Stream stream);

}  // namespace cuda
}  // namespace qlora::kernels
