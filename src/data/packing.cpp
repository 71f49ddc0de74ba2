#include "data/packing.h"

#include "qlora/base/error.h"

#include <numeric>
#include <set>

namespace qlora::data {
namespace {

// Rows that have space left.
class OpenRows {
 public:
  explicit OpenRows(std::int64_t capacity) : by_space_(static_cast<std::size_t>(capacity) + 1) {}

  // Takes `length` tokens of the fullest row that has so many, or of the next new row.
  std::int32_t place(std::int64_t length) {
    const auto fit = spaces_.lower_bound(length);
    if (fit == spaces_.end()) {
      add(rows_, std::ssize(by_space_) - 1 - length);
      return rows_++;
    }
    const std::int64_t space = *fit;
    std::vector<std::int32_t>& rows = by_space_[static_cast<std::size_t>(space)];
    const std::int32_t row = rows.back();
    rows.pop_back();
    if (rows.empty()) spaces_.erase(fit);
    add(row, space - length);
    return row;
  }

  std::int32_t count() const { return rows_; }

 private:
  void add(std::int32_t row, std::int64_t space) {
    if (space == 0) return;
    std::vector<std::int32_t>& rows = by_space_[static_cast<std::size_t>(space)];
    if (rows.empty()) spaces_.insert(space);
    rows.push_back(row);
  }

  std::vector<std::vector<std::int32_t>> by_space_;  // [capacity + 1]
  std::set<std::int64_t> spaces_;                    // that some row has
  std::int32_t rows_ = 0;
};

// Items by key, those of one key in the order of `items`: a counting sort. 0 <= key < keys.
template <class Key>
PackedRows sort_by_key(const std::vector<std::int64_t>& items, std::int64_t keys, const Key& key) {
  PackedRows sorted;
  sorted.starts.resize(static_cast<std::size_t>(keys) + 1);
  for (const std::int64_t item : items) ++sorted.starts[static_cast<std::size_t>(key(item)) + 1];
  std::partial_sum(sorted.starts.begin(), sorted.starts.end(), sorted.starts.begin());
  std::vector<std::int64_t> next(sorted.starts.begin(), sorted.starts.end() - 1);
  sorted.items.resize(items.size());
  for (const std::int64_t item : items) {
    sorted.items[static_cast<std::size_t>(next[static_cast<std::size_t>(key(item))]++)] = item;
  }
  return sorted;
}

}  // namespace

PackedRows pack_best_fit(std::span<const std::int32_t> lengths, std::int64_t capacity) {
  std::vector<std::int64_t> items(lengths.size());
  std::iota(items.begin(), items.end(), std::int64_t{0});
  const auto length = [&](std::int64_t item) { return lengths[static_cast<std::size_t>(item)]; };
  items = sort_by_key(items, capacity + 1, [&](std::int64_t item) {
            QLORA_ASSERT(length(item) > 0 && length(item) <= capacity);
            return capacity - length(item);
          }).items;
  OpenRows rows(capacity);
  std::vector<std::int32_t> row_of(lengths.size());
  for (const std::int64_t item : items) {
    row_of[static_cast<std::size_t>(item)] = rows.place(length(item));
  }
  return sort_by_key(items, rows.count(),
                     [&](std::int64_t item) { return row_of[static_cast<std::size_t>(item)]; });
}

}  // namespace qlora::data
