#include "io/convert.h"

#include "qlora/base/error.h"
#include "qlora/base/narrow.h"
#include "qlora/base/parallel.h"

#include <algorithm>
#include <cstring>

namespace qlora::io {
namespace {

constexpr std::int64_t kPiece = 2048;  // elements; a multiple of every block length
constexpr std::int64_t kPiecesPerThread = 32;

template <class T>
T load(const std::byte* from, std::int64_t i) {
  T value;
  std::memcpy(&value, from + i * static_cast<std::int64_t>(sizeof value), sizeof value);
  return value;
}

template <class T, float (*Convert)(T)>
void decode(const std::byte* from, std::int64_t n, float* out) {
  for (std::int64_t i = 0; i < n; ++i) out[i] = Convert(load<T>(from, i));
}

float from_double(double value) { return static_cast<float>(value); }
float from_float(float value) { return value; }

DecodeFunction decoder_of(DType dtype) {
  switch (dtype) {
    case DType::Float64: return decode<double, from_double>;
    case DType::Float32: return decode<float, from_float>;
    case DType::Float16: return decode<std::uint16_t, fp16_to_float>;
    case DType::BFloat16: return decode<std::uint16_t, bf16_to_float>;
    default: return {};
  }
}

template <std::uint16_t (*Convert)(float)>
void encode(const float* from, std::int64_t n, std::byte* out) {
  for (std::int64_t i = 0; i < n; ++i) {
    const std::uint16_t value = Convert(from[i]);
    std::memcpy(out + i * static_cast<std::int64_t>(sizeof value), &value, sizeof value);
  }
}

void encode_floats(const float* from, std::int64_t n, DType out, std::byte* destination) {
  switch (out) {
    case DType::Float32:
      std::memcpy(destination, from, static_cast<std::size_t>(n) * sizeof(float));
      return;
    case DType::Float16: return encode<float_to_fp16>(from, n, destination);
    case DType::BFloat16: return encode<float_to_bf16>(from, n, destination);
    default: QLORA_ASSERT(false && "can_convert was asked first");
  }
}

}  // namespace

StoredElements plain_elements(const std::byte* bytes, DType dtype) {
  return {bytes, 1, static_cast<std::int64_t>(size_of(dtype)), dtype, decoder_of(dtype)};
}

bool can_convert(const StoredElements& stored, DType out) {
  if (stored.dtype == out) return true;
  const bool floating = out == DType::Float32 || out == DType::Float16 || out == DType::BFloat16;
  return floating && static_cast<bool>(stored.decode);
}

void convert_elements(const StoredElements& stored, std::int64_t begin, std::int64_t n, DType out,
                      std::byte* destination) {
  const auto out_bytes = static_cast<std::int64_t>(size_of(out));
  if (stored.dtype == out) {
    if (n > 0) std::memcpy(destination, stored.at(begin), static_cast<std::size_t>(n * out_bytes));
    return;
  }
  float piece[kPiece];
  for (std::int64_t done = 0; done < n; done += kPiece) {
    const std::int64_t count = std::min(kPiece, n - done);
    stored.decode(stored.at(begin + done), count, piece);
    encode_floats(piece, count, out, destination + done * out_bytes);
  }
}

void convert_elements_parallel(const StoredElements& stored, std::int64_t begin, std::int64_t n,
                               DType out, std::byte* destination) {
  const auto out_bytes = static_cast<std::int64_t>(size_of(out));
  parallel_for(div_up(n, kPiece), kPiecesPerThread, [&](std::int64_t first, std::int64_t last) {
    const std::int64_t from = first * kPiece;
    const std::int64_t to = std::min(last * kPiece, n);
    convert_elements(stored, begin + from, to - from, out, destination + from * out_bytes);
  });
}

}  // namespace qlora::io
