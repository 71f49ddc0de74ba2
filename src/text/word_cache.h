#pragma once
// Ids of short words seen before: a fixed table in which a new word replaces the one in its place.

#include <array>
#include <cstdint>
#include <cstring>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

namespace qlora::text {

class WordCache {
 public:
  // Appends the word's ids; false where it is not there.
  bool find(std::string_view word, std::vector<std::int32_t>& ids) const {
    if (word.empty() || word.size() > kBytes) return false;
    const Entry& entry = entries_[place(word)];
    if (entry.size != word.size() || std::memcmp(entry.word, word.data(), word.size()) != 0) {
      return false;
    }
    ids.insert(ids.end(), entry.ids, entry.ids + entry.count);
    return true;
  }

  void store(std::string_view word, std::span<const std::int32_t> ids) {
    if (word.empty() || word.size() > kBytes || ids.size() > kIds) return;
    Entry& entry = entries_[place(word)];
    entry.size = static_cast<std::uint8_t>(word.size());
    entry.count = static_cast<std::uint8_t>(ids.size());
    std::memcpy(entry.word, word.data(), word.size());
    std::memcpy(entry.ids, ids.data(), ids.size_bytes());
  }

 private:
  static constexpr std::size_t kBytes = 34, kIds = 7, kEntries = 1 << 15;
  struct Entry {  // one cache line
    std::int32_t ids[kIds];
    std::uint8_t size, count;
    char word[kBytes];
  };
  static_assert(sizeof(Entry) == 64);

  static std::size_t place(std::string_view word) {
    return std::hash<std::string_view>{}(word) % kEntries;
  }

  std::vector<Entry> entries_ = std::vector<Entry>(kEntries);  // size 0: free
};

}  // namespace qlora::text
