#pragma once
// What the model is about to learn, for a person to look at before training.

#include "qlora/data/dataset.h"

#include <cstddef>
#include <span>
#include <string>

namespace qlora::data {

struct PreviewStyle {
  bool colour = false;           // learned text in green (ANSI); else between « and »
  std::size_t max_tokens = 400;  // of one sample; the rest is counted
};

// The text of each sample's tokens, the learned ones marked. Control characters come out escaped.
std::string preview_samples(std::span<const Sample> samples, const text::Tokenizer& tokenizer,
                            const PreviewStyle& style);

// A table of rows, samples, tokens, learned tokens, and what was cut or dropped and why.
std::string preview_stats(const Dataset& dataset);

}  // namespace qlora::data
