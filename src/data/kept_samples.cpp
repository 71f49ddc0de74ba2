#include "data/kept_samples.h"

#include "data/sample_writer.h"
#include "qlora/base/error.h"
#include "qlora/base/random.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

namespace qlora::data {
namespace {

constexpr std::array<char, 16> kMagic{'q', 'l', 'o', 'r', 'a', ' ', 's', 'a',
                                      'm', 'p', 'l', 'e', 's', ' ', '1', '\n'};
constexpr std::int64_t kIndexPiece = 65536;  // entries that are written or read at a time

struct Trailer {
  std::int64_t record_bytes;
  std::int64_t samples;
  std::int64_t text_bytes;
  std::uint64_t hash;
  std::array<char, 16> magic;
};
static_assert(sizeof(Trailer) == 48);

// Of pieces one after another.
class PieceHash {
 public:
  void add(std::span<const std::byte> piece) {
    const std::string_view text(reinterpret_cast<const char*>(piece.data()), piece.size());
    value_ = value_ * 0x9E3779B97F4A7C15ull + stable_hash(text);
  }
  std::uint64_t value() const { return value_; }

 private:
  std::uint64_t value_ = 0;
};

std::optional<Trailer> read_trailer(const SampleFile& file, std::int64_t entry_bytes) {
  constexpr auto kBytes = static_cast<std::int64_t>(sizeof(Trailer));
  const std::int64_t size = file.size();
  if (size < kBytes) return std::nullopt;
  Trailer trailer{};
  file.read(size - kBytes, std::as_writable_bytes(std::span(&trailer, 1)));
  const auto fits = [size](std::int64_t bytes) { return bytes >= 0 && bytes <= size; };
  const bool sound =
      trailer.magic == kMagic && fits(trailer.record_bytes) && fits(trailer.text_bytes) &&
      trailer.samples >= 0 && trailer.samples <= size / entry_bytes &&
      trailer.record_bytes + trailer.samples * entry_bytes + trailer.text_bytes + kBytes == size;
  return sound ? std::optional(trailer) : std::nullopt;
}

}  // namespace

SampleStore SampleWriter::finish_as(const std::filesystem::path& path, std::string_view text) {
  flush();
  PieceHash hash;
  const auto put = [&](std::span<const std::byte> bytes) {
    hash.add(bytes);
    file_->write(bytes);
  };
  const auto& entries = store_.entries_;
  for (std::int64_t begin = 0; begin < std::ssize(entries); begin += kIndexPiece) {
    const std::int64_t end = std::min(begin + kIndexPiece, std::ssize(entries));
    const std::vector piece(entries.begin() + begin, entries.begin() + end);
    put(std::as_bytes(std::span(piece)));
  }
  put(std::as_bytes(std::span(text)));
  const Trailer trailer{offset_, store_.size(), std::ssize(text), hash.value(), kMagic};
  file_->write(std::as_bytes(std::span(&trailer, 1)));
  file_->keep_as(path);
  return finish();
}

std::optional<KeptSamples> open_kept_samples(const std::filesystem::path& path) {
  using Entry = SampleStore::Entry;
  const std::shared_ptr<SampleFile> file = SampleFile::open(path);
  if (!file) return std::nullopt;
  const auto trailer = read_trailer(*file, sizeof(Entry));
  if (!trailer) return std::nullopt;
  KeptSamples kept;
  PieceHash hash;
  std::int64_t offset = trailer->record_bytes;
  const auto get = [&](std::span<std::byte> bytes) {
    file->read(offset, bytes);
    hash.add(bytes);
    offset += std::ssize(bytes);
  };
  for (std::int64_t begin = 0; begin < trailer->samples; begin += kIndexPiece) {
    std::vector<Entry> piece(
        static_cast<std::size_t>(std::min(kIndexPiece, trailer->samples - begin)));
    get(std::as_writable_bytes(std::span(piece)));
    kept.samples.entries_.insert(kept.samples.entries_.end(), piece.begin(), piece.end());
  }
  kept.text.resize(static_cast<std::size_t>(trailer->text_bytes));
  get(std::as_writable_bytes(std::span(kept.text)));
  if (hash.value() != trailer->hash) return std::nullopt;
  kept.samples.file_ = file;
  return kept;
}

}  // namespace qlora::data
