// ggml's element types, and their blocks to float32.
//   Q4_0: f16 d, 16 bytes        value (q - 8) * d
//   Q4_1: f16 d, f16 m, 16 bytes value q * d + m
//   Q8_0: f16 d, 32 x i8         value q * d
// In the 4-bit types byte j holds element j in its low and element j + 16 in its high nibble.

#include "qlora/base/dtype.h"
#include "qlora/base/error.h"
#include "qlora/io/gguf.h"

#include <algorithm>
#include <cstring>

namespace qlora::io {
namespace {

// Source: ggml.h (enum ggml_type) and ggml-common.h (block structs).
constexpr GgmlType kTypes[] = {
    {0, "F32", 1, 4},         {1, "F16", 1, 2},         {2, "Q4_0", 32, 18},
    {3, "Q4_1", 32, 20},      {6, "Q5_0", 32, 22},      {7, "Q5_1", 32, 24},
    {8, "Q8_0", 32, 34},      {9, "Q8_1", 32, 36},      {10, "Q2_K", 256, 84},
    {11, "Q3_K", 256, 110},   {12, "Q4_K", 256, 144},   {13, "Q5_K", 256, 176},
    {14, "Q6_K", 256, 210},   {15, "Q8_K", 256, 292},   {16, "IQ2_XXS", 256, 66},
    {17, "IQ2_XS", 256, 74},  {18, "IQ3_XXS", 256, 98}, {19, "IQ1_S", 256, 50},
    {20, "IQ4_NL", 32, 18},   {21, "IQ3_S", 256, 110},  {22, "IQ2_S", 256, 82},
    {23, "IQ4_XS", 256, 136}, {24, "I8", 1, 1},         {25, "I16", 1, 2},
    {26, "I32", 1, 4},        {27, "I64", 1, 8},        {28, "F64", 1, 8},
    {29, "IQ1_M", 256, 56},   {30, "BF16", 1, 2},       {34, "TQ1_0", 256, 54},
    {35, "TQ2_0", 256, 66},   {39, "MXFP4", 32, 17},
};

constexpr std::int64_t kBlock = 32;
constexpr std::int64_t kHalf = kBlock / 2;

std::uint16_t load_u16(const std::byte* from) {
  std::uint16_t value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

float load_f16(const std::byte* from) { return fp16_to_float(load_u16(from)); }

void decode_f32(const std::byte* in, std::int64_t n, float* out) {
  std::memcpy(out, in, static_cast<std::size_t>(n) * sizeof(float));
}

void decode_f16(const std::byte* in, std::int64_t n, float* out) {
  for (std::int64_t i = 0; i < n; ++i) out[i] = load_f16(in + 2 * i);
}

void decode_bf16(const std::byte* in, std::int64_t n, float* out) {
  for (std::int64_t i = 0; i < n; ++i) out[i] = bf16_to_float(load_u16(in + 2 * i));
}

// One 4-bit block's values: out = (q - zero) * scale + offset, product and sum each rounded.
void decode_nibbles(const std::byte* codes, int zero, float scale, float offset, float* out) {
  for (std::int64_t j = 0; j < kHalf; ++j) {
    const auto byte = static_cast<int>(codes[j]);
    out[j] = static_cast<float>((byte & 15) - zero) * scale + offset;
    out[j + kHalf] = static_cast<float>((byte >> 4) - zero) * scale + offset;
  }
}

void decode_q4_0(const std::byte* in, std::int64_t n, float* out) {
  constexpr std::int64_t kBytes = 18;
  for (std::int64_t i = 0; i < n / kBlock; ++i, in += kBytes) {
    // Adding -0 keeps every product, the sign of zero included.
    decode_nibbles(in + 2, 8, load_f16(in), -0.0F, out + i * kBlock);
  }
}

void decode_q4_1(const std::byte* in, std::int64_t n, float* out) {
  constexpr std::int64_t kBytes = 20;
  for (std::int64_t i = 0; i < n / kBlock; ++i, in += kBytes) {
    decode_nibbles(in + 4, 0, load_f16(in), load_f16(in + 2), out + i * kBlock);
  }
}

void decode_q8_0(const std::byte* in, std::int64_t n, float* out) {
  constexpr std::int64_t kBytes = 34;
  for (std::int64_t i = 0; i < n / kBlock; ++i, in += kBytes) {
    const float scale = load_f16(in);
    for (std::int64_t j = 0; j < kBlock; ++j) {
      const auto code = static_cast<std::int8_t>(in[2 + j]);
      out[i * kBlock + j] = static_cast<float>(code) * scale;
    }
  }
}

struct Decoder {
  std::string_view type;
  void (*decode)(const std::byte*, std::int64_t, float*);
};

constexpr Decoder kDecoders[] = {
    {"F32", decode_f32},   {"F16", decode_f16},   {"BF16", decode_bf16},
    {"Q8_0", decode_q8_0}, {"Q4_0", decode_q4_0}, {"Q4_1", decode_q4_1},
};

}  // namespace

const GgmlType* find_ggml_type(std::uint32_t id) {
  const auto* it = std::ranges::find(kTypes, id, &GgmlType::id);
  return it == std::end(kTypes) ? nullptr : it;
}

const GgmlType* find_ggml_type(std::string_view name) {
  const auto* it = std::ranges::find(kTypes, name, &GgmlType::name);
  return it == std::end(kTypes) ? nullptr : it;
}

bool can_dequantize(const GgmlType& type) {
  return std::ranges::find(kDecoders, type.name, &Decoder::type) != std::end(kDecoders);
}

void dequantize_gguf(const GgmlType& type, const std::byte* blocks, std::int64_t n, float* out) {
  QLORA_ASSERT(n % type.block_elements == 0);
  const auto* it = std::ranges::find(kDecoders, type.name, &Decoder::type);
  if (it == std::end(kDecoders)) {
    fail("the GGUF type {} is not supported; known are F32, F16, BF16, Q8_0, Q4_0, Q4_1",
         type.name);
  }
  it->decode(blocks, n, out);
}

}  // namespace qlora::io
