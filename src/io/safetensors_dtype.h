#pragma once
// The names that safetensors headers give to element types.

#include "qlora/base/dtype.h"

#include <optional>
#include <string_view>
#include <utility>

namespace qlora::io {

inline constexpr std::pair<std::string_view, DType> kSafetensorsTypes[] = {
    {"F64", DType::Float64},   {"F32", DType::Float32}, {"F16", DType::Float16},
    {"BF16", DType::BFloat16}, {"I64", DType::Int64},   {"I32", DType::Int32},
    {"I16", DType::Int16},     {"I8", DType::Int8},     {"U8", DType::UInt8},
    {"BOOL", DType::Bool},
};

inline std::optional<DType> dtype_of_safetensors(std::string_view name) {
  for (const auto& [known, dtype] : kSafetensorsTypes) {
    if (known == name) return dtype;
  }
  return std::nullopt;
}

inline std::string_view safetensors_name(DType dtype) {
  for (const auto& [name, known] : kSafetensorsTypes) {
    if (known == dtype) return name;
  }
  return {};
}

}  // namespace qlora::io
