#include "data/byte_stream.h"

#include "qlora/base/error.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace qlora::data {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view kGzipMagic = "\x1F\x8B";
constexpr std::string_view kZstdMagic = "\x28\xB5\x2F\xFD";
constexpr std::size_t kInputBytes = 1 << 18;  // of compressed data at a time

class PlainBytes : public ByteStream {
 public:
  explicit PlainBytes(fs::path path)
      : path_(std::move(path)),
        stamp_(path_),
        descriptor_(::open(path_.c_str(), O_RDONLY | O_CLOEXEC)) {
    if (descriptor_ < 0) fail("{}: cannot be opened: {}", path_.string(), std::strerror(errno));
  }
  ~PlainBytes() override {
    if (descriptor_ >= 0) ::close(descriptor_);
  }

  std::size_t read(std::span<char> out) override {
    while (true) {
      const ssize_t count = ::read(descriptor_, out.data(), out.size());
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) fail("{}: cannot be read: {}", path_.string(), std::strerror(errno));
      if (count == 0) stamp_.expect_unchanged();
      return static_cast<std::size_t>(count);
    }
  }

 private:
  fs::path path_;
  FileStamp stamp_;
  int descriptor_;
};

// What both decoders share: a buffer of compressed bytes.
class Decoder : public ByteStream {
 public:
  explicit Decoder(const fs::path& path) : name_(path.string()), source_(path) {}

 protected:
  // More input where the last was used up; false at the end of the file.
  bool fill() {
    if (!input_.empty()) return true;
    input_ = {buffer_.data(), source_.read(buffer_)};
    return !input_.empty();
  }
  [[noreturn]] void fail_damaged(std::string_view what) const {
    fail("{}: the compressed data is damaged: {}", name_, what);
  }
  [[noreturn]] void fail_truncated() const {
    fail("{}: the compressed data ends in the middle; is the file truncated?", name_);
  }

  std::span<char> input_;  // not decoded yet

 private:
  std::string name_;
  PlainBytes source_;
  std::vector<char> buffer_ = std::vector<char>(kInputBytes);
};

class GzipBytes : public Decoder {
 public:
  explicit GzipBytes(const fs::path& path) : Decoder(path) {
    constexpr int kGzipWindow = 15 + 16;  // the largest window; 16: a gzip header
    QLORA_ASSERT(::inflateInit2(&state_, kGzipWindow) == Z_OK);
  }
  ~GzipBytes() override { ::inflateEnd(&state_); }

  std::size_t read(std::span<char> out) override {
    state_.next_out = reinterpret_cast<Bytef*>(out.data());
    state_.avail_out = static_cast<uInt>(out.size());
    while (state_.avail_out == out.size()) {
      if (!fill()) {
        if (inside_) fail_truncated();
        return 0;
      }
      // A file may hold several members, one behind the other.
      if (!std::exchange(inside_, true)) ::inflateReset(&state_);
      state_.next_in = reinterpret_cast<Bytef*>(input_.data());
      state_.avail_in = static_cast<uInt>(input_.size());
      const int result = ::inflate(&state_, Z_NO_FLUSH);
      if (result != Z_OK && result != Z_STREAM_END) {
        fail_damaged(state_.msg != nullptr ? state_.msg : "not gzip");
      }
      if (result == Z_STREAM_END) inside_ = false;
      input_ = input_.last(state_.avail_in);
    }
    return out.size() - state_.avail_out;
  }

 private:
  z_stream state_{};
  bool inside_ = false;  // a member has begun and not ended
};

class ZstdBytes : public Decoder {
 public:
  explicit ZstdBytes(const fs::path& path) : Decoder(path), state_(::ZSTD_createDStream()) {
    QLORA_ASSERT(state_ != nullptr);
  }
  ~ZstdBytes() override { ::ZSTD_freeDStream(state_); }

  std::size_t read(std::span<char> out) override {
    ZSTD_outBuffer target{out.data(), out.size(), 0};
    while (target.pos == 0) {
      // With a full output there may be more to come of input that is used up already.
      const bool more = fill();
      if (!more && !inside_) return 0;
      ZSTD_inBuffer source{input_.data(), input_.size(), 0};
      const std::size_t result = ::ZSTD_decompressStream(state_, &target, &source);
      if (::ZSTD_isError(result) != 0) fail_damaged(::ZSTD_getErrorName(result));
      inside_ = result != 0;
      input_ = input_.subspan(source.pos);
      if (!more && inside_ && target.pos == 0) fail_truncated();
    }
    return target.pos;
  }

 private:
  ZSTD_DStream* state_;
  bool inside_ = false;  // a frame has begun and not ended
};

std::array<char, 4> first_bytes(const fs::path& path) {
  std::array<char, 4> bytes{};
  PlainBytes(path).read(bytes);
  return bytes;
}

}  // namespace

FileStamp::FileStamp(fs::path path) : path_(std::move(path)), values_(look()) {}

FileStamp::Values FileStamp::look() const {
  struct stat status {};
  if (::stat(path_.c_str(), &status) != 0) {
    fail("{}: cannot be opened: {}", path_.string(), std::strerror(errno));
  }
  if (!S_ISREG(status.st_mode)) fail("{}: not a regular file", path_.string());
  return {status.st_size, status.st_mtim.tv_sec, status.st_mtim.tv_nsec};
}

void FileStamp::expect_unchanged() const {
  if (look() == values_) return;
  fail("{}: the file has changed while it was read; start again when it is complete",
       path_.string());
}

std::unique_ptr<ByteStream> open_bytes(const fs::path& path) {
  const std::array<char, 4> bytes = first_bytes(path);
  const std::string_view start(bytes.data(), bytes.size());
  if (start.starts_with(kGzipMagic)) return std::make_unique<GzipBytes>(path);
  if (start.starts_with(kZstdMagic)) return std::make_unique<ZstdBytes>(path);
  return std::make_unique<PlainBytes>(path);
}

}  // namespace qlora::data
