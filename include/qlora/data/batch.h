#pragma once
// Samples as rows of one length, padded on the right: one a row, or several one behind another.

#include "qlora/data/sample.h"

#include <cstdint>
#include <span>
#include <vector>

namespace qlora::data {

struct Batch {
  std::int64_t rows = 0;
  std::int64_t length = 0;              // tokens of the longest row
  std::vector<std::int64_t> input_ids;  // [rows, length]; pads hold the pad token
  // [rows, length], not shifted; pads and the first token of each sample hold kNotLearned
  std::vector<std::int64_t> labels;
  std::vector<std::int64_t> samples_in_row;  // [rows], each at least 1
  std::vector<std::int64_t> lengths;         // [samples], row by row
  std::vector<std::int64_t> sample_ids;      // [samples]
  std::vector<float> weights;                // [samples]
  std::int64_t label_count = 0;              // labels that are learned
  double label_weight = 0;                   // the sum of their samples' weights
  std::int64_t token_count = 0;              // without pads

  bool packed() const { return std::ssize(lengths) > rows; }
};

// The samples of each row in this order. `pad_id` fills the ends of shorter rows.
Batch make_batch(std::span<const std::vector<Sample>> rows, std::int64_t pad_id);

}  // namespace qlora::data
