#pragma once
// Small files made byte by byte, and the check that reading one ends in an Error.

#include "qlora/base/error.h"
#include "support/test_data.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace qlora::io::test {

// Runs `action`, which must throw qlora::Error in one line that holds `part`.
template <class Action>
void expect_error(Action action, std::string_view part) {
  try {
    action();
  } catch (const Error& error) {
    const std::string_view text = error.what();
    EXPECT_NE(text.find(part), std::string_view::npos) << "expected '" << part << "' in: " << text;
    EXPECT_EQ(text.find('\n'), std::string_view::npos) << text;
    return;
  }
  ADD_FAILURE() << "no Error; expected one with '" << part << "'";
}

// Runs `action`, which may succeed or throw qlora::Error, and nothing else.
template <class Action>
void expect_only_errors(Action action) {
  try {
    action();
  } catch (const Error&) {
    SUCCEED();
  }
}

// Without write_text's sync, which these thousands of files need not pay for.
inline void put_file(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

template <class T>
std::string raw(T value) {
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

template <class T>
std::string raw_list(const std::vector<T>& values) {
  std::string bytes;
  for (const T value : values) bytes += raw(value);
  return bytes;
}

inline std::span<const std::byte> as_bytes(const std::string& text) {
  return std::as_bytes(std::span(text));
}

inline std::string as_string(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

inline std::string safetensors_image(const std::string& header, const std::string& data) {
  return raw<std::uint64_t>(header.size()) + header + data;
}

// A GGUF file, version 3.
class GgufBuilder {
 public:
  static std::string text(std::string_view value) {
    return raw<std::uint64_t>(value.size()) + std::string(value);
  }
  GgufBuilder& key(std::string_view name, std::uint32_t type, const std::string& value) {
    keys_ += text(name) + raw(type) + value;
    ++key_count_;
    return *this;
  }
  GgufBuilder& string(std::string_view name, std::string_view value) {
    return key(name, 8, text(value));
  }
  GgufBuilder& u32(std::string_view name, std::uint32_t value) { return key(name, 4, raw(value)); }
  GgufBuilder& f32(std::string_view name, float value) { return key(name, 6, raw(value)); }

  // Dimensions fastest first; the data is padded to the next multiple of 32.
  GgufBuilder& tensor(std::string_view name, const std::vector<std::uint64_t>& dimensions,
                      std::uint32_t type, const std::string& bytes) {
    tensors_ += text(name) + raw(static_cast<std::uint32_t>(dimensions.size())) +
                raw_list(dimensions) + raw(type) + raw<std::uint64_t>(data_.size());
    data_ += bytes;
    data_.append((32 - data_.size() % 32) % 32, '\0');
    ++tensor_count_;
    return *this;
  }

  std::string build() const {
    std::string file = "GGUF" + raw<std::uint32_t>(3) + raw(tensor_count_) + raw(key_count_);
    file += keys_ + tensors_;
    file.append((32 - file.size() % 32) % 32, '\0');
    return file + data_;
  }
  std::filesystem::path write(const std::filesystem::path& path) const {
    put_file(path, build());
    return path;
  }

 private:
  std::uint64_t key_count_ = 0;
  std::uint64_t tensor_count_ = 0;
  std::string keys_;
  std::string tensors_;
  std::string data_;
};

}  // namespace qlora::io::test
