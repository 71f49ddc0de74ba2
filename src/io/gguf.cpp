#include "qlora/io/gguf.h"

#include "io/gguf_parser.h"
#include "qlora/base/error.h"

#include <array>
#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <utility>

namespace qlora::io {
namespace {

constexpr std::string_view kMagic = "GGUF";

template <class T>
T load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

bool is_integer_type(GgufType type) {
  using enum GgufType;
  return type != Float32 && type != Float64 && type != Bool && type != String && type != Array;
}

bool is_number_type(GgufType type) {
  return is_integer_type(type) || type == GgufType::Float32 || type == GgufType::Float64;
}

std::int64_t load_integer(GgufType type, const std::byte* from, std::string_view where) {
  switch (type) {
    case GgufType::UInt8: return load<std::uint8_t>(from);
    case GgufType::Int8: return load<std::int8_t>(from);
    case GgufType::UInt16: return load<std::uint16_t>(from);
    case GgufType::Int16: return load<std::int16_t>(from);
    case GgufType::UInt32: return load<std::uint32_t>(from);
    case GgufType::Int32: return load<std::int32_t>(from);
    case GgufType::Int64: return load<std::int64_t>(from);
    default: break;
  }
  const auto value = load<std::uint64_t>(from);
  if (!std::in_range<std::int64_t>(value)) fail("{}: the number {} is too large", where, value);
  return static_cast<std::int64_t>(value);
}

double load_number(GgufType type, const std::byte* from, std::string_view where) {
  if (type == GgufType::Float32) return static_cast<double>(load<float>(from));
  if (type == GgufType::Float64) return load<double>(from);
  return static_cast<double>(load_integer(type, from, where));
}

// A string whose length the parser has checked.
std::string_view load_string(const std::byte* from) {
  const auto length = load<std::uint64_t>(from);
  return {reinterpret_cast<const char*>(from + sizeof length), length};
}

}  // namespace

bool is_gguf(const std::filesystem::path& path) {
  std::array<char, kMagic.size()> head{};
  std::ifstream file(path, std::ios::binary);
  file.read(head.data(), head.size());
  return file && std::string_view(head.data(), head.size()) == kMagic;
}

GgufFile::GgufFile(std::filesystem::path path) : file_(std::move(path)) {
  GgufParser(*this).parse();
}

const GgufFile::Value& GgufFile::value(std::string_view key, bool is_array) const {
  const auto it = keys_.find(std::string(key));
  if (it == keys_.end()) fail("{}: the key '{}' is missing", path().string(), key);
  if (it->second.is_array != is_array) {
    fail("{}: the key '{}' is {}; expected {}", path().string(), key,
         is_array ? "a single value" : "a list", is_array ? "a list" : "a single value");
  }
  return it->second;
}

void GgufFile::expect(bool condition, std::string_view key, std::string_view expected) const {
  if (!condition) {
    fail("{}: the key '{}' is {}; expected {}", path().string(), key, describe(key), expected);
  }
}

std::string GgufFile::string(std::string_view key) const {
  const Value& found = value(key, false);
  expect(found.type == GgufType::String, key, "a text");
  return std::string(load_string(found.bytes.data()));
}

std::int64_t GgufFile::integer(std::string_view key) const {
  const Value& found = value(key, false);
  expect(is_integer_type(found.type), key, "a whole number");
  return load_integer(found.type, found.bytes.data(), key);
}

double GgufFile::number(std::string_view key) const {
  const Value& found = value(key, false);
  expect(is_number_type(found.type), key, "a number");
  return load_number(found.type, found.bytes.data(), key);
}

bool GgufFile::boolean(std::string_view key) const {
  const Value& found = value(key, false);
  expect(found.type == GgufType::Bool, key, "true or false");
  return load<std::uint8_t>(found.bytes.data()) != 0;
}

std::vector<std::string> GgufFile::strings(std::string_view key) const {
  const Value& found = value(key, true);
  expect(found.type == GgufType::String, key, "a list of texts");
  std::vector<std::string> list;
  list.reserve(found.count);
  const std::byte* at = found.bytes.data();
  for (std::uint64_t i = 0; i < found.count; ++i) {
    const std::string_view text = load_string(at);
    list.emplace_back(text);
    at += sizeof(std::uint64_t) + text.size();
  }
  return list;
}

std::vector<std::int64_t> GgufFile::integers(std::string_view key) const {
  const Value& found = value(key, true);
  expect(is_integer_type(found.type), key, "a list of whole numbers");
  const std::size_t size = gguf_scalar_bytes(found.type);
  std::vector<std::int64_t> list(found.count);
  for (std::size_t i = 0; i < list.size(); ++i) {
    list[i] = load_integer(found.type, found.bytes.data() + i * size, key);
  }
  return list;
}

std::vector<double> GgufFile::numbers(std::string_view key) const {
  const Value& found = value(key, true);
  expect(is_number_type(found.type), key, "a list of numbers");
  const std::size_t size = gguf_scalar_bytes(found.type);
  std::vector<double> list(found.count);
  for (std::size_t i = 0; i < list.size(); ++i) {
    list[i] = load_number(found.type, found.bytes.data() + i * size, key);
  }
  return list;
}

std::optional<std::string> GgufFile::find_string(std::string_view key) const {
  return has(key) ? std::optional(string(key)) : std::nullopt;
}

std::optional<std::int64_t> GgufFile::find_integer(std::string_view key) const {
  return has(key) ? std::optional(integer(key)) : std::nullopt;
}

std::optional<double> GgufFile::find_number(std::string_view key) const {
  return has(key) ? std::optional(number(key)) : std::nullopt;
}

std::optional<bool> GgufFile::find_boolean(std::string_view key) const {
  return has(key) ? std::optional(boolean(key)) : std::nullopt;
}

std::string GgufFile::describe(std::string_view key) const {
  constexpr std::size_t kMaxText = 80;
  const auto it = keys_.find(std::string(key));
  if (it == keys_.end()) return "absent";
  const Value& found = it->second;
  if (found.is_array) {
    const bool texts = found.type == GgufType::String;
    return fmt::format("[{} {}]", found.count, texts ? "texts" : "values");
  }
  if (found.type == GgufType::String) {
    return fmt::format("\"{}\"", load_string(found.bytes.data()).substr(0, kMaxText));
  }
  if (found.type == GgufType::Bool) return boolean(key) ? "true" : "false";
  return fmt::format("{}", load_number(found.type, found.bytes.data(), key));
}

const GgufTensor* GgufFile::find(std::string_view name) const {
  const auto it = tensor_index_.find(std::string(name));
  return it == tensor_index_.end() ? nullptr : &tensors_[it->second];
}

}  // namespace qlora::io
