#pragma once
// The 4-bit codes and their decision thresholds (bitsandbytes' csrc/kernels.cu); each table is
// stated here once. The 8-bit maps stand in dynamic_maps.h.

#include "qlora/kernels/table.h"
#include "qlora/kernels/types.h"

namespace qlora::kernels {

// Quantiles of the normal distribution, ascending; code 7 is exactly 0 (QLoRA, appendix E).
inline constexpr Table<16> kNf4Codes = {{
    -1.0f,
    -0.6961928009986877f,
    -0.5250730514526367f,
    -0.39491748809814453f,
    -0.28444138169288635f,
    -0.18477343022823334f,
    -0.09105003625154495f,
    0.0f,
    0.07958029955625534f,
    0.16093020141124725f,
    0.24611230194568634f,
    0.33791524171829224f,
    0.44070982933044434f,
    0.5626170039176941f,
    0.7229568362236023f,
    1.0f,
}};

constexpr Table<15> midpoints(const Table<16>& codes) {
  Table<15> result{};
  for (int i = 0; i < 15; ++i) result.values[i] = (codes[i] + codes[i + 1]) * 0.5f;
  return result;
}

// Value x has the code that counts the thresholds strictly below it: a tie takes the lower code.
inline constexpr Table<15> kNf4Thresholds = midpoints(kNf4Codes);

// Bit pattern sign, exponent (2), mantissa (1); not ascending. Code 8 is -0: bitsandbytes' kernels
// give -0 too, though the quant_map that it stores says +0.
inline constexpr Table<16> kFp4Codes = {{
    0.0f / 12,
    0.0625f / 12,
    8.0f / 12,
    12.0f / 12,
    4.0f / 12,
    6.0f / 12,
    2.0f / 12,
    3.0f / 12,
    -0.0f / 12,
    -0.0625f / 12,
    -8.0f / 12,
    -12.0f / 12,
    -4.0f / 12,
    -6.0f / 12,
    -2.0f / 12,
    -3.0f / 12,
}};

// |x| has the rank that counts the thresholds strictly below it: a tie takes the smaller magnitude.
inline constexpr Table<7> kFp4Thresholds = {{
    0.00260417f,
    0.0859375f,
    0.20833333f,
    0.29166667f,
    0.4166667f,
    0.583333f,
    0.8333333f,
}};

// Hexadecimal digit r is the code of the r-th smallest magnitude: 0, 1, 6, 7, 4, 5, 2, 3.
inline constexpr std::uint32_t kFp4CodeOfRank = 0x32547610u;

inline constexpr const Table<16>& codes_of(QuantType type) {
  return type == QuantType::NF4 ? kNf4Codes : kFp4Codes;
}

}  // namespace qlora::kernels
