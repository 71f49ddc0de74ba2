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
  std::int64_t id = 0;  // the row's number in its file, from 0: names the sample in every epoch

  std::int64_t label_count() const;
};

}  // namespace qlora::data
