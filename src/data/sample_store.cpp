// A record of the file, native byte order:
//   0   i64  id
//   8   i64  line
//   16  i32  file
//   20  u32  tokens n
//   24  f32  weight
//   28  u32  x n: the token in bits 0 to 30, whether it is learned in bit 31
#include "qlora/data/sample_store.h"

#include "data/sample_writer.h"
#include "qlora/base/error.h"

#include <cstddef>
#include <cstring>
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
  float weight;
};
constexpr std::size_t kHeaderBytes = 28;
static_assert(offsetof(Header, weight) + sizeof(float) == kHeaderBytes);

}  // namespace

void SampleWriter::append(const Sample& sample) {
  QLORA_ASSERT(sample.ids.size() == sample.labels.size());
  const Header header{sample.id, sample.line, sample.file,
                      static_cast<std::uint32_t>(sample.ids.size()), sample.weight};
  const auto put = [this](const auto& value) {
    const auto bytes = std::as_bytes(std::span(&value, 1));
    buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
  };
  const std::size_t before = buffer_.size();
  const auto header_bytes = std::as_bytes(std::span(&header, 1)).first(kHeaderBytes);
  buffer_.insert(buffer_.end(), header_bytes.begin(), header_bytes.end());
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
  std::vector<std::byte> record(kHeaderBytes + static_cast<std::size_t>(length) * 4);
  file_->read(offset, record);
  Header header{};
  std::memcpy(&header, record.data(), kHeaderBytes);
  QLORA_ASSERT(header.tokens == static_cast<std::uint32_t>(length));
  Sample sample;
  sample.id = header.id + copy * kCopyStride;
  sample.file = header.file;
  sample.line = header.line;
  sample.weight = header.weight;
  sample.ids.resize(header.tokens);
  sample.labels.resize(header.tokens);
  std::memcpy(sample.ids.data(), record.data() + kHeaderBytes, record.size() - kHeaderBytes);
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
