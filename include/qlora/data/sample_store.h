#pragma once
// Samples on disk: memory holds 16 bytes for each, however long it is, so that data sets larger
// than memory can be trained on.

#include "qlora/data/sample.h"

#include <cstdint>
#include <deque>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <vector>

namespace qlora::data {

class SampleFile;
struct KeptSamples;
std::optional<KeptSamples> open_kept_samples(const std::filesystem::path& path);

// How far the ids of a sample's copies are apart; ids of samples as they were read are less.
inline constexpr std::int64_t kCopyStride = std::int64_t{1} << 40;

// Copies share the file.
class SampleStore {
 public:
  SampleStore() = default;  // holds nothing
  // For samples that are in memory already. Throws Error where no temporary file can be written.
  explicit SampleStore(std::span<const Sample> samples);

  std::int64_t size() const { return static_cast<std::int64_t>(entries_.size()); }
  bool empty() const { return entries_.empty(); }
  // Tokens of sample i, without reading it.
  std::int64_t length(std::int64_t i) const { return entry(i).length; }
  // Sample i from the disk; for several threads at once. Throws Error where it cannot be read.
  Sample get(std::int64_t i) const;

  // Keeps the samples that are not `chosen` and returns those that are, both in their order.
  SampleStore take(const std::vector<bool>& chosen);
  // Appends sample i once more. Its id tells the copies apart, so that each has random numbers of
  // its own: copy number c (from 1) has c * kCopyStride added to it.
  void repeat(std::int64_t i, std::int32_t copy);

 private:
  friend class SampleWriter;
  friend std::optional<KeptSamples> open_kept_samples(const std::filesystem::path& path);

  struct Entry {
    std::int64_t offset;  // of the sample's record in the file, bytes
    std::int32_t length;  // tokens
    std::int32_t copy;
  };

  const Entry& entry(std::int64_t i) const { return entries_[static_cast<std::size_t>(i)]; }

  std::shared_ptr<const SampleFile> file_;
  std::deque<Entry> entries_;  // unlike a vector, never in memory twice while it grows
};

}  // namespace qlora::data
