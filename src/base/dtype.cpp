#include "qlora/base/dtype.h"

#include "qlora/base/error.h"

#include <array>
#include <utility>

namespace qlora {
namespace {

struct DTypeFacts {
  DType dtype;
  std::size_t size;
  std::string_view name;
};

constexpr std::array<DTypeFacts, 10> kDTypes{{
    {DType::Float64, 8, "float64"},
    {DType::Float32, 4, "float32"},
    {DType::Float16, 2, "float16"},
    {DType::BFloat16, 2, "bfloat16"},
    {DType::Int64, 8, "int64"},
    {DType::Int32, 4, "int32"},
    {DType::Int16, 2, "int16"},
    {DType::Int8, 1, "int8"},
    {DType::UInt8, 1, "uint8"},
    {DType::Bool, 1, "bool"},
}};

const DTypeFacts& facts(DType dtype) { return kDTypes[static_cast<std::size_t>(dtype)]; }

}  // namespace

std::size_t size_of(DType dtype) { return facts(dtype).size; }

std::string_view name_of(DType dtype) { return facts(dtype).name; }

DType dtype_from_name(std::string_view name) {
  for (const auto& known : kDTypes) {
    if (known.name == name) return known.dtype;
  }
  fail("unknown element type '{}'; expected float32, float16, bfloat16, ...", name);
}

std::uint16_t float_to_fp16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000u);
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return sign | 0x7e00u;
  // 65520 and above round to infinity.
  if (magnitude >= 0x477ff000u) return sign | 0x7c00u;
  if (magnitude < 0x38800000u) {
    // Subnormal half: adding 0.5 aligns the mantissa so that the FPU does the rounding.
    const float aligned = std::bit_cast<float>(magnitude) + 0.5f;
    return static_cast<std::uint16_t>(sign | (std::bit_cast<std::uint32_t>(aligned) - 0x3f000000u));
  }
  const std::uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
  return static_cast<std::uint16_t>(sign | ((rounded - 0x38000000u) >> 13));
}

float fp16_to_float(std::uint16_t bits) {
  const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000u) << 16;
  const std::uint32_t exponent = (bits >> 10) & 0x1fu;
  const std::uint32_t mantissa = bits & 0x3ffu;
  if (exponent == 0x1fu) return std::bit_cast<float>(sign | 0x7f800000u | (mantissa << 13));
  if (exponent != 0)
    return std::bit_cast<float>(sign | ((exponent + 112u) << 23) | (mantissa << 13));
  const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
  return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(magnitude));
}

}  // namespace qlora
