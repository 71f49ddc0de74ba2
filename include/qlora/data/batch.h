#pragma once
// Samples side by side, padded on the right.

#include "qlora/data/sample.h"

#include <cstdint>
#include <span>
#include <vector>

namespace qlora::data {

struct Batch {
  std::int64_t rows = 0;
  std::int64_t length = 0;               // of the longest row
  std::vector<std::int64_t> input_ids;   // [rows, length]; pads hold the pad token
  std::vector<std::int64_t> labels;      // [rows, length], not shifted; pads hold kNotLearned
  std::vector<std::int64_t> lengths;     // [rows], without pads
  std::vector<std::int64_t> sample_ids;  // [rows]
  std::int64_t label_count = 0;          // labels but those of each row's first position
  std::int64_t token_count = 0;          // without pads
};

// The samples in this order. `pad_id` fills the ends of shorter rows.
Batch make_batch(std::span<const Sample> samples, std::int64_t pad_id);

}  // namespace qlora::data
