// A record of the file, native byte order (the file dies with its process):
//   0   i64  id
//   8   i64  line
//   16  i32  file
//   20  u32  tokens n
//   24  u32  x n: the token in bits 0 to 30, whether it is learned in bit 31
#include "qlora/data/sample_store.h"

#include "data/sample_writer.h"
#include "qlora/base/error.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>

namespace qlora::data {
namespace {

constexpr std::size_t kBufferBytes = 1 << 20;
constexpr std::uint32_t kLearnedBit = 1u << 31;

struct Header {
  std::int64_t id;
  std::int64_t line;
  std::int32_t file;
  std::uint32_t tokens;
};
static_assert(sizeof(Header) == 24);

// The Filesystem Hierarchy Standard's place for temporary files that may be large: unlike /tmp,
// which may lie in memory, it is on a disk.
std::string temporary_folder() {
  const char* const chosen = std::getenv("TMPDIR");
  return chosen != nullptr && *chosen != '\0' ? chosen : "/var/tmp";
}

}  // namespace

// A file without a name, gone when it is closed.
class SampleFile {
 public:
  SampleFile() : folder_(temporary_folder()) {
    std::string name = folder_ + "/qlora-samples-XXXXXX";
    descriptor_ = ::mkostemp(name.data(), O_CLOEXEC);
    if (descriptor_ < 0 || ::unlink(name.c_str()) != 0) fail_io("made");
  }
  ~SampleFile() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  SampleFile(const SampleFile&) = delete;
  SampleFile& operator=(const SampleFile&) = delete;

  void write(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const ssize_t written = ::write(descriptor_, bytes.data(), bytes.size());
      if (written < 0 && errno == EINTR) continue;
      if (written <= 0) fail_io("written");
      bytes = bytes.subspan(static_cast<std::size_t>(written));
    }
  }

  void read(std::int64_t offset, std::span<std::byte> bytes) const {
    while (!bytes.empty()) {
      const ssize_t count = ::pread(descriptor_, bytes.data(), bytes.size(), offset);
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) fail_io("read");
      bytes = bytes.subspan(static_cast<std::size_t>(count));
      offset += count;
    }
  }

 private:
  [[noreturn]] void fail_io(std::string_view action) const {
    fail("{}: the temporary file of tokens cannot be {}: {}; set TMPDIR to a folder with room",
         folder_, action, std::strerror(errno));
  }

  std::string folder_;
  int descriptor_ = -1;
};

SampleWriter::SampleWriter() = default;
SampleWriter::~SampleWriter() = default;

void SampleWriter::append(const Sample& sample) {
  QLORA_ASSERT(sample.ids.size() == sample.labels.size());
  const Header header{sample.id, sample.line, sample.file,
                      static_cast<std::uint32_t>(sample.ids.size())};
  const auto put = [this](const auto& value) {
    const auto bytes = std::as_bytes(std::span(&value, 1));
    buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
  };
  const std::size_t before = buffer_.size();
  put(header);
  for (std::size_t i = 0; i < sample.ids.size(); ++i) {
    const bool learned = sample.labels[i] != kNotLearned;
    put(static_cast<std::uint32_t>(sample.ids[i]) | (learned ? kLearnedBit : 0));
  }
  store_.entries_.push_back({offset_, static_cast<std::int32_t>(sample.ids.size()), 0});
  offset_ += static_cast<std::int64_t>(buffer_.size() - before);
  if (buffer_.size() >= kBufferBytes) flush();
}

void SampleWriter::flush() {
  if (!file_) file_ = std::make_shared<SampleFile>();
  file_->write(buffer_);
  buffer_.clear();
}

SampleStore SampleWriter::finish() {
  flush();
  store_.file_ = std::exchange(file_, nullptr);
  offset_ = 0;
  return std::exchange(store_, {});
}

SampleStore::SampleStore(std::span<const Sample> samples) {
  SampleWriter writer;
  for (const Sample& sample : samples) writer.append(sample);
  *this = writer.finish();
}

Sample SampleStore::get(std::int64_t i) const {
  const auto [offset, length, copy] = entry(i);
  std::vector<std::byte> record(sizeof(Header) + static_cast<std::size_t>(length) * 4);
  file_->read(offset, record);
  Header header{};
  std::memcpy(&header, record.data(), sizeof(Header));
  QLORA_ASSERT(header.tokens == static_cast<std::uint32_t>(length));
  Sample sample;
  sample.id = header.id + copy * kCopyStride;
  sample.file = header.file;
  sample.line = header.line;
  sample.ids.resize(header.tokens);
  sample.labels.resize(header.tokens);
  std::memcpy(sample.ids.data(), record.data() + sizeof(Header), record.size() - sizeof(Header));
  for (std::size_t t = 0; t < sample.ids.size(); ++t) {
    const auto bits = static_cast<std::uint32_t>(sample.ids[t]);
    sample.ids[t] = static_cast<std::int32_t>(bits & ~kLearnedBit);
    sample.labels[t] =
        (bits & kLearnedBit) != 0 ? sample.ids[t] : static_cast<std::int32_t>(kNotLearned);
  }
  return sample;
}

SampleStore SampleStore::take(const std::vector<bool>& chosen) {
  QLORA_ASSERT(chosen.size() == entries_.size());
  SampleStore taken;
  taken.file_ = file_;
  std::size_t kept = 0;
  for (std::size_t i = 0; i < chosen.size(); ++i) {
    if (chosen[i]) {
      taken.entries_.push_back(entries_[i]);
    } else {
      entries_[kept++] = entries_[i];
    }
  }
  entries_.resize(kept);
  return taken;
}

void SampleStore::repeat(std::int64_t i, std::int32_t copy) {
  Entry again = entry(i);
  again.copy = copy;
  entries_.push_back(again);
}

}  // namespace qlora::data
