#pragma once
// One training text as tokens.

#include <cstdint>
#include <vector>

namespace qlora::data {

// The label of a position whose token is not learned (torch's ignore_index).
inline constexpr std::int64_t kNotLearned = -100;

// ids and labels have the same length; labels[i] is ids[i] or kNotLearned (not shifted).
// labels[0] is kNotLearned: no position predicts the first token.
struct Sample {
  std::vector<std::int32_t> ids;
  std::vector<std::int32_t> labels;
  // Its number among all that was read, from 0, dropped ones counted: names it in every epoch.
  std::int64_t id = 0;
  std::int32_t file = 0;  // where it is from: a position in Dataset::files
  std::int64_t line = 0;  // the first line of its row, from 1; in Parquet the row
  float weight = 1;       // of each of its labels in the loss; above 0

  std::int64_t label_count() const;
};

}  // namespace qlora::data
