#include "data/truncation.h"

#include <algorithm>

namespace qlora::data {
namespace {

// Tokens [begin, end) as a sample of their own.
Sample piece_of(const Sample& sample, std::int64_t begin, std::int64_t end) {
  Sample piece;
  piece.ids.assign(sample.ids.begin() + begin, sample.ids.begin() + end);
  piece.labels.assign(sample.labels.begin() + begin, sample.labels.begin() + end);
  piece.labels.front() = static_cast<std::int32_t>(kNotLearned);
  return piece;
}

}  // namespace

std::vector<Sample> fit_to_length(Sample sample, std::int64_t max_length, TruncationMode mode) {
  const std::int64_t length = std::ssize(sample.ids);
  std::vector<Sample> pieces;
  if (length <= max_length) {
    pieces.push_back(std::move(sample));
    return pieces;
  }
  switch (mode) {
    case TruncationMode::KeepStart: pieces.push_back(piece_of(sample, 0, max_length)); break;
    case TruncationMode::KeepEnd:
      pieces.push_back(piece_of(sample, length - max_length, length));
      break;
    case TruncationMode::Split:
      for (std::int64_t begin = 0; begin < length; begin += max_length) {
        pieces.push_back(piece_of(sample, begin, std::min(begin + max_length, length)));
      }
      break;
    case TruncationMode::Drop: break;
  }
  return pieces;
}

}  // namespace qlora::data
