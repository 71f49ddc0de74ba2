#pragma once
// The 4-bit decoder that CUDA kernels share. A unit is what one 16-byte store holds.

#include "decode_4bit.h"
#include "launch.cuh"

#include <bit>
#include <type_traits>

namespace qlora::kernels::cuda {

// A 4-bit tensor, or its part from block first_block on (then `packed` points there).
struct FourBit {
  QuantType type;
  const std::uint8_t* packed;
  Absmax absmax;
  std::uint32_t first_block;
  int block_shift;  // log2 of the block size
};

inline FourBit make_four_bit(QuantType type, const std::uint8_t* packed, const Absmax& absmax,
                             std::int64_t begin, std::int64_t block) {
  return {.type = type,
          .packed = packed + begin / 2,
          .absmax = absmax,
          .first_block = static_cast<std::uint32_t>(begin / block),
          .block_shift = std::countr_zero(static_cast<std::uint64_t>(block))};
}

// What a CUDA block keeps near: the 4-bit code values and the map of nested scales.
struct DecodeTables {
  float codes[16];
  float nested_map[256];
};

static __constant__ Table<16> code_values[2] = {kNf4Codes, kFp4Codes};

// Called by all threads of a CUDA block.
__device__ inline void fill(const FourBit& source, DecodeTables& tables) {
  for (int i = threadIdx.x; i < 256; i += blockDim.x) {
    if (i < 16) tables.codes[i] = code_values[static_cast<int>(source.type)][i];
    if (source.absmax.codes != nullptr) tables.nested_map[i] = source.absmax.nested_map[i];
  }
  __syncthreads();
}

// Codes of a unit: 4 in two bytes for float32, 8 in four bytes for the 16-bit types.
template <class T>
using CodeWord = std::conditional_t<kUnit<T> == 4, std::uint16_t, std::uint32_t>;

// A unit as it is stored. Loading needs no tables, so that it can be under way before they are.
template <class T>
struct CodedUnit {
  CodeWord<T> codes;
  std::uint8_t absmax_code;  // where the scales are nested
  float absmax;              // of the block, or of its nested block
};

// Indices of 32 bits cost a third of the instructions of 64.
template <class T>
__device__ CodedUnit<T> load_unit(const FourBit& source, std::uint32_t unit) {
  constexpr int kUnitShift = kUnit<T> == 8 ? 3 : 2;
  const std::uint32_t block = source.first_block + (unit >> (source.block_shift - kUnitShift));
  const bool nested = source.absmax.codes != nullptr;
  return {.codes = reinterpret_cast<const CodeWord<T>*>(source.packed)[unit],
          .absmax_code = nested ? source.absmax.codes[block] : std::uint8_t{0},
          .absmax = nested ? source.absmax.nested_values[block / kNestedBlock]
                           : source.absmax.values[block]};
}

template <class T>
__device__ void decode(const FourBit& source, const CodedUnit<T>& unit, const DecodeTables& tables,
                       float (&values)[kUnit<T>]) {
  const bool nested = source.absmax.codes != nullptr;
  const float scale =
      nested ? nested_scale(tables.nested_map[unit.absmax_code], unit.absmax, source.absmax.offset)
             : unit.absmax;
#pragma unroll
  for (int i = 0; i < kUnit<T>; ++i) {
    // Little-endian bytes, the even element in the high nibble.
    const int first_bit = i / 2 * 8 + (i % 2 == 0 ? 4 : 0);
    values[i] = tables.codes[unit.codes >> first_bit & 15] * scale;
  }
}

__device__ inline float decode_element(const FourBit& source, const DecodeTables& tables,
                                       std::int64_t element) {
  const int byte = source.packed[element / 2];
  const int code = element % 2 == 0 ? byte >> 4 : byte & 15;
  const std::int64_t block = source.first_block + (element >> source.block_shift);
  return tables.codes[code] * scale_of_block(source.absmax, block, tables.nested_map);
}

}  // namespace qlora::kernels::cuda
