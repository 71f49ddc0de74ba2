#pragma once
// What the model is about to learn, for a person to look at before training.

#include "qlora/data/dataset.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace qlora::data {

struct PreviewStyle {
  bool colour = false;           // learned text in green (ANSI); else between « and »
  std::size_t max_tokens = 400;  // of one sample; the rest is counted
  std::int64_t max_samples = 3;
};

// The text of the first samples' tokens, the learned ones marked, each under the file and line that
// it is from (`files`: those of the data set). Control characters come out escaped.
std::string preview_samples(const SampleStore& samples, std::span<const std::string> files,
                            const text::Tokenizer& tokenizer, const PreviewStyle& style);

// A table of rows, samples, tokens, learned tokens, and what was cut or dropped and why.
std::string preview_stats(const Dataset& dataset);

}  // namespace qlora::data
