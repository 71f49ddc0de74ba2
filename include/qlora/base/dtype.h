#pragma once
// Element types of stored tensors, and the host conversions of the two 16-bit floats.

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace qlora {

enum class DType : std::uint8_t {
  Float64,
  Float32,
  Float16,
  BFloat16,
  Int64,
  Int32,
  Int16,
  Int8,
  UInt8,
  Bool,
};

// Bytes of one element.
std::size_t size_of(DType dtype);

// The name that config files and config.json use: "float32", "bfloat16", "uint8" ...
std::string_view name_of(DType dtype);

// The inverse of name_of; throws Error that lists the known names.
DType dtype_from_name(std::string_view name);

// Round to nearest even; NaN stays NaN.
inline std::uint16_t float_to_bf16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<std::uint16_t>((bits >> 16) | 0x40u);
  return static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

inline float bf16_to_float(std::uint16_t bits) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

// IEEE binary16, round to nearest even, subnormals kept.
std::uint16_t float_to_fp16(float value);
float fp16_to_float(std::uint16_t bits);

}  // namespace qlora
