#pragma once
// How fast a tokenizer is on one core.

#include "qlora/base/constraints.h"

#include <cstdint>
#include <string>

namespace qlora::text {

struct TokenizerBenchmark {
  std::string model;
  std::string text;
  std::int64_t passes = 5;

  template <class V>
  void visit(V&& v) {
    v.field("model", model, "what load_tokenizer opens: a model's directory, a file, a GGUF",
            Required{});
    v.field("text", text, "a UTF-8 file; each line is encoded on its own", Required{});
    v.field("passes", passes, "times that all lines are encoded", at_least(1));
  }
};

// Encodes in this thread; returns what was measured as one JSON object, indented. Seconds are those
// that the processor worked, so other programs beside it matter little; the first pass has cold
// caches, the other figure is the median.
std::string benchmark_tokenizer(const TokenizerBenchmark& options);

}  // namespace qlora::text
