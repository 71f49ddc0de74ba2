#pragma once
// Which samples share a row.

#include <cstdint>
#include <span>
#include <vector>

namespace qlora::data {

// Samples by row: those of row r are items[starts[r]] up to items[starts[r + 1]].
struct PackedRows {
  std::vector<std::int64_t> items;   // every sample once
  std::vector<std::int64_t> starts;  // [rows + 1]
};

// Best-fit decreasing (Johnson 1974) over all samples at once: from the longest to the shortest,
// each goes into the row with the least space that takes it, else into a new one. Samples of equal
// length are taken in their order, so how many rows there are and how full each is depends on the
// lengths alone. `lengths`: tokens of each sample, at most `capacity`, that of a row.
// Time n log(capacity), memory about 24 bytes a sample.
PackedRows pack_best_fit(std::span<const std::int32_t> lengths, std::int64_t capacity);

}  // namespace qlora::data
