#pragma once
// Pre-tokenizers that files name but do not hold: GGUF's tokenizer.ggml.pre, tiktoken's pattern.

#include "qlora/base/json.h"

#include <string>
#include <string_view>
#include <vector>

namespace qlora::text {

// In tokenizer.json's terms.
struct NamedPreTokenizer {
  Json normalizer;
  Json pre_tokenizer;
  bool ignore_merges = false;
};

// By the name that llama.cpp's converter writes. Throws Error listing the known names.
NamedPreTokenizer named_pre_tokenizer(std::string_view name, std::string_view where);

}  // namespace qlora::text
