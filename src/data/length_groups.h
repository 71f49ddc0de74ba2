#pragma once
// transformers' group_by_length.

#include <cstdint>
#include <functional>
#include <vector>

namespace qlora::data {

// Sorts chunks of at most 50 updates (and at least 4 chunks, where there are so many samples) from
// the longest sample to the shortest, then exchanges the first one for the longest of all: what
// transformers.trainer_pt_utils.get_length_grouped_indices makes of this order.
// `update`: samples of one update over all ranks.
void group_by_length(std::vector<std::int64_t>& order, std::int64_t update,
                     const std::function<std::int64_t(std::int64_t sample)>& length);

}  // namespace qlora::data
