#pragma once
// One product of a warp's tensor cores: D [16, 8] += A [16, 16] · B [16, 8] in float32.
// Lane 4 · g + q holds (PTX ISA, "Matrix fragments for mma.m16n8k16 with floating point type"):
//
//   A   rows g and g + 8 of columns 2q, 2q + 1 (words 0, 1), then of 2q + 8, 2q + 9 (words 2, 3)
//   B   of column g: rows 2q, 2q + 1 (word 0) and 2q + 8, 2q + 9 (word 1)
//   D   columns 2q, 2q + 1 of row g (0, 1) and of row g + 8 (2, 3)
//
// A word holds two elements, the first in its low half.

#include "element.h"

namespace qlora::kernels {

#define QLORA_MMA(type)                                                      \
  asm("mma.sync.aligned.m16n8k16.row.col.f32." type "." type                 \
      ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};" \
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                       \
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]))

__device__ inline void multiply_add(const std::uint32_t (&a)[4], const std::uint32_t (&b)[2],
                                    float (&d)[4], Float16) {
  QLORA_MMA("f16");
}

__device__ inline void multiply_add(const std::uint32_t (&a)[4], const std::uint32_t (&b)[2],
                                    float (&d)[4], BFloat16) {
  QLORA_MMA("bf16");
}

#undef QLORA_MMA

// Eight neighbouring elements of a row: 16 bytes.
struct Octet {
  std::uint32_t words[4];
};

// The low, or high, halves of two words, the first's below.
__device__ inline std::uint32_t low_halves(std::uint32_t a, std::uint32_t b) {
  return __byte_perm(a, b, 0x5410);
}
__device__ inline std::uint32_t high_halves(std::uint32_t a, std::uint32_t b) {
  return __byte_perm(a, b, 0x7632);
}

// Four rows of eight columns as the operand A of four products, transposed: product j has the
// columns 2j and 2j + 1 as its rows g and g + 8, and the four rows as its inner indices.
__device__ inline void transpose(const Octet (&rows)[4], std::uint32_t (&a)[4][4]) {
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    a[j][0] = low_halves(rows[0].words[j], rows[1].words[j]);
    a[j][1] = high_halves(rows[0].words[j], rows[1].words[j]);
    a[j][2] = low_halves(rows[2].words[j], rows[3].words[j]);
    a[j][3] = high_halves(rows[2].words[j], rows[3].words[j]);
  }
}

}  // namespace qlora::kernels
