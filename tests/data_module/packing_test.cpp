#include "data/packing.h"

#include "qlora/base/random.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

namespace qlora::data {
namespace {

using Lengths = std::vector<std::int32_t>;

// Of instructions and answers: many short ones, few long ones, none over 2,048.
Lengths skewed_lengths(std::int64_t count) {
  const RandomStream stream(11, "lengths");
  Lengths lengths;
  for (std::int64_t i = 0; i < count; ++i) {
    const double tokens = 120.0 * std::exp(0.9 * stream.normal(static_cast<std::uint64_t>(i)));
    lengths.push_back(static_cast<std::int32_t>(std::clamp(tokens, 1.0, 2048.0)));
  }
  return lengths;
}

// The lengths in each row, rows sorted.
std::vector<Lengths> contents(const PackedRows& rows, const Lengths& lengths) {
  std::vector<Lengths> result;
  for (std::size_t r = 0; r + 1 < rows.starts.size(); ++r) {
    Lengths& row = result.emplace_back();
    for (std::int64_t i = rows.starts[r]; i < rows.starts[r + 1]; ++i) {
      row.push_back(lengths[static_cast<std::size_t>(rows.items[static_cast<std::size_t>(i)])]);
    }
  }
  std::ranges::sort(result);
  return result;
}

TEST(Packing, LosesNothingAndOverfillsNoRow) {
  for (const std::int64_t capacity : {2048, 3000}) {
    const Lengths lengths = skewed_lengths(5000);
    const PackedRows rows = pack_best_fit(lengths, capacity);
    std::vector<std::int64_t> items = rows.items;
    std::ranges::sort(items);
    for (std::int64_t i = 0; i < 5000; ++i) ASSERT_EQ(items.at(static_cast<std::size_t>(i)), i);
    EXPECT_EQ(items.size(), 5000u);
    EXPECT_EQ(rows.starts.front(), 0);
    EXPECT_EQ(rows.starts.back(), 5000);
    for (const Lengths& row : contents(rows, lengths)) {
      EXPECT_FALSE(row.empty());
      EXPECT_LE(std::accumulate(row.begin(), row.end(), std::int64_t{0}), capacity);
    }
  }
}

// The definition, row by row.
std::vector<Lengths> best_fit_by_search(Lengths lengths, std::int64_t capacity) {
  std::ranges::sort(lengths, std::greater<>());
  std::vector<Lengths> rows;
  std::vector<std::int64_t> spaces;
  for (const std::int32_t length : lengths) {
    std::size_t best = rows.size();
    for (std::size_t r = 0; r < rows.size(); ++r) {
      if (spaces[r] >= length && (best == rows.size() || spaces[r] < spaces[best])) best = r;
    }
    if (best == rows.size()) {
      rows.emplace_back();
      spaces.push_back(capacity);
    }
    rows[best].push_back(length);
    spaces[best] -= length;
  }
  return rows;
}

TEST(Packing, IsBestFitDecreasing) {
  const Lengths lengths = skewed_lengths(2000);
  const auto fills = [](const std::vector<Lengths>& rows) {
    std::vector<std::int64_t> sums;
    for (const Lengths& row : rows) sums.push_back(std::reduce(row.begin(), row.end()));
    std::ranges::sort(sums);
    return sums;
  };
  // Rows of equal space may swap what they get; how full they are is the same.
  EXPECT_EQ(fills(contents(pack_best_fit(lengths, 2048), lengths)),
            fills(best_fit_by_search(lengths, 2048)));
  const Lengths few{2, 9, 5, 5, 3, 7, 1};
  EXPECT_EQ(contents(pack_best_fit(few, 10), few),
            (std::vector<Lengths>{{2}, {5, 5}, {7, 3}, {9, 1}}));
}

TEST(Packing, WastesLittle) {
  const Lengths lengths = skewed_lengths(20000);
  const auto tokens = std::accumulate(lengths.begin(), lengths.end(), 0.0);
  const auto rows = static_cast<double>(pack_best_fit(lengths, 2048).starts.size() - 1);
  EXPECT_LT(1 - tokens / (rows * 2048), 0.001);
}

}  // namespace
}  // namespace qlora::data
