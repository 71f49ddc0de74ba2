#pragma once
// Fills a GgufFile from its mapped bytes.

#include "qlora/io/gguf.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace qlora::io {

// Bytes of one value of a fixed-size type; 0 for String and Array.
std::size_t gguf_scalar_bytes(GgufType type);

class GgufParser {
 public:
  explicit GgufParser(GgufFile& file);
  // Throws Error at the first length, count, type or offset that does not fit the file.
  void parse();

 private:
  template <class T>
  T take();
  std::span<const std::byte> take_bytes(std::uint64_t count, std::string_view what);
  std::string take_string(std::string_view what);
  GgufType take_type(std::string_view key);

  void parse_key();
  void parse_array(GgufFile::Value& value, std::string_view key);
  void parse_tensor();
  void place_tensors();
  // A count of records that each take at least `least` bytes.
  void check_count(std::uint64_t count, std::uint64_t least, std::string_view what) const;

  std::uint64_t remaining() const { return bytes_.size() - at_; }

  GgufFile& file_;
  std::span<const std::byte> bytes_;
  std::string where_;
  std::uint64_t at_ = 0;
  std::vector<std::uint64_t> offsets_;  // of the tensors, from the data section
};

}  // namespace qlora::io
