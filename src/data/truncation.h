#pragma once
// What data.max_length leaves of a sample.

#include "qlora/data/data_config.h"
#include "qlora/data/sample.h"

#include <cstdint>
#include <vector>

namespace qlora::data {

// The sample itself where it has at most max_length tokens; else by `mode` its first or last
// max_length tokens, all of it in pieces of max_length and a rest, or nothing. No piece learns its
// first token, as nothing stands before it. Only ids and labels of the pieces are set.
std::vector<Sample> fit_to_length(Sample sample, std::int64_t max_length, TruncationMode mode);

}  // namespace qlora::data
