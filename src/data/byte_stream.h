#pragma once
// The bytes of a data file, decompressed where it is gzip or zstd (its first bytes tell, whatever
// its name).

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>

namespace qlora::data {

class ByteStream {
 public:
  virtual ~ByteStream() = default;
  // Fills a part of `out` (at least one byte) and says how large it is; 0 at the end. Throws Error
  // "FILE: ..." where the file cannot be read, is damaged, or has changed since it was opened.
  virtual std::size_t read(std::span<char> out) = 0;
};

// Throws Error where the file is missing or no regular file.
std::unique_ptr<ByteStream> open_bytes(const std::filesystem::path& path);

// A file's size and time of change, to tell that it is another one by now.
class FileStamp {
 public:
  // Throws Error where the file is missing.
  explicit FileStamp(std::filesystem::path path);
  // Throws Error where the file has changed.
  void expect_unchanged() const;

 private:
  struct Values {
    std::int64_t size = 0;
    std::int64_t seconds = 0;
    std::int64_t nanoseconds = 0;
    bool operator==(const Values&) const = default;
  };
  Values look() const;

  std::filesystem::path path_;
  Values values_;
};

}  // namespace qlora::data
