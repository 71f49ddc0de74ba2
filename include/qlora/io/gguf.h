#pragma once
// GGUF files, versions 2 and 3, little-endian: metadata by key, tensors by name.
//   "GGUF", u32 version, u64 tensors, u64 keys
//   keys:    string (u64 length, bytes), u32 type, value
//   tensors: string, u32 dimensions, u64 each (fastest first), u32 type, u64 offset
//   data at the next multiple of general.alignment (default 32)

#include "qlora/base/file.h"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace qlora::io {

enum class GgufType : std::uint32_t {
  UInt8,
  Int8,
  UInt16,
  Int16,
  UInt32,
  Int32,
  Float32,
  Bool,
  String,
  Array,
  UInt64,
  Int64,
  Float64,
};

// A tensor's element type (ggml_type). Only some can be dequantized here: see dequantize_gguf.
struct GgmlType {
  std::uint32_t id;
  std::string_view name;
  std::int64_t block_elements;
  std::int64_t block_bytes;
};

struct GgufTensor {
  std::string name;
  const GgmlType* type = nullptr;
  std::vector<std::int64_t> shape;  // slowest first: a linear is [out, in]
  std::span<const std::byte> bytes;
};

class GgufFile {
 public:
  // Maps the file and checks every length in it against the file's size. Throws Error.
  explicit GgufFile(std::filesystem::path path);
  GgufFile(GgufFile&&) noexcept = default;

  const std::filesystem::path& path() const { return file_.path(); }

  bool has(std::string_view key) const { return keys_.contains(std::string(key)); }
  // In file order.
  const std::vector<std::string>& keys() const { return key_order_; }

  // Throw Error naming key and file where the key is absent or of another kind.
  std::string string(std::string_view key) const;
  std::int64_t integer(std::string_view key) const;
  double number(std::string_view key) const;  // any float or integer type
  bool boolean(std::string_view key) const;
  std::vector<std::string> strings(std::string_view key) const;
  std::vector<std::int64_t> integers(std::string_view key) const;
  std::vector<double> numbers(std::string_view key) const;

  // The same, but empty where the key is absent.
  std::optional<std::string> find_string(std::string_view key) const;
  std::optional<std::int64_t> find_integer(std::string_view key) const;
  std::optional<double> find_number(std::string_view key) const;
  std::optional<bool> find_boolean(std::string_view key) const;

  // One line for people: "llama", "[49152 strings]".
  std::string describe(std::string_view key) const;

  const std::vector<GgufTensor>& tensors() const { return tensors_; }
  // Null where absent.
  const GgufTensor* find(std::string_view name) const;
  // Tells the system that these pages are not needed again.
  void drop(std::span<const std::byte> part) const { file_.drop(part); }

 private:
  friend class GgufParser;

  struct Value {
    GgufType type;  // of a scalar, or of an array's elements
    bool is_array = false;
    std::uint64_t count = 1;  // elements of an array
    std::span<const std::byte> bytes;
  };
  const Value& value(std::string_view key, bool is_array) const;
  void expect(bool condition, std::string_view key, std::string_view expected) const;

  MappedFile file_;
  std::vector<std::string> key_order_;
  std::unordered_map<std::string, Value> keys_;
  std::vector<GgufTensor> tensors_;
  std::unordered_map<std::string, std::size_t> tensor_index_;
};

// Whether the first bytes of a regular file are GGUF's.
bool is_gguf(const std::filesystem::path& path);

// Whether dequantize_gguf knows the type: F32, F16, BF16, Q8_0, Q4_0, Q4_1.
bool can_dequantize(const GgmlType& type);

// Blocks to float32: out[0 .. n). n is a multiple of type.block_elements and `blocks` holds
// n / block_elements * block_bytes bytes. One thread. Throws Error naming an unknown type.
void dequantize_gguf(const GgmlType& type, const std::byte* blocks, std::int64_t n, float* out);

// By ggml's number or name; null where unknown.
const GgmlType* find_ggml_type(std::uint32_t id);
const GgmlType* find_ggml_type(std::string_view name);

}  // namespace qlora::io
