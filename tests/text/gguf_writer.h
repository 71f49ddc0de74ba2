#pragma once
// Writes GGUF files that hold metadata alone, for tests.

#include "qlora/base/file.h"

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace qlora::text::test_files {

class GgufWriter {
 public:
  void add(std::string_view key, std::string_view value) {
    start(key, kString);
    put_string(value);
  }
  void add(std::string_view key, std::uint32_t value) {
    start(key, kUint32);
    put(value);
  }
  void add(std::string_view key, bool value) {
    start(key, kBool);
    put(static_cast<std::uint8_t>(value));
  }
  void add(std::string_view key, const std::vector<std::string>& values) {
    start_array(key, kString, values.size());
    for (const std::string& value : values) put_string(value);
  }
  void add(std::string_view key, const std::vector<float>& values) {
    start_array(key, kFloat32, values.size());
    for (const float value : values) put(value);
  }
  void add(std::string_view key, const std::vector<std::int32_t>& values) {
    start_array(key, kInt32, values.size());
    for (const std::int32_t value : values) put(value);
  }
  void add(std::string_view key, const char* value) { add(key, std::string_view(value)); }

  void save(const std::filesystem::path& path) const {
    GgufWriter header;
    header.text_ = "GGUF";
    header.put(std::uint32_t{3});
    header.put(std::uint64_t{0});
    header.put(count_);
    write_text(path, header.text_ + text_);
  }

 private:
  static constexpr std::uint32_t kUint32 = 4, kInt32 = 5, kFloat32 = 6, kBool = 7, kString = 8,
                                 kArray = 9;
  template <class T>
  void put(T value) {
    text_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  void put_string(std::string_view value) {
    put(static_cast<std::uint64_t>(value.size()));
    text_ += value;
  }
  void start(std::string_view key, std::uint32_t type) {
    ++count_;
    put_string(key);
    put(type);
  }
  void start_array(std::string_view key, std::uint32_t type, std::size_t size) {
    start(key, kArray);
    put(type);
    put(static_cast<std::uint64_t>(size));
  }

  std::string text_;
  std::uint64_t count_ = 0;
};

}  // namespace qlora::text::test_files
