#pragma once
// Tiktoken rank files: a line a token, its bytes in base64, a space and its rank (= id), as Llama 3
// ships its tokenizer.model.

#include "text/bpe_model.h"

#include <string_view>

namespace qlora::text {

// Whether a file's beginning looks like one (the other *.model files are sentencepiece's).
bool looks_like_tiktoken(std::string_view text);

// With Llama 3's pattern and its 256 special tokens after the ranks (meta-llama/llama3,
// llama/tokenizer.py). Throws Error naming the line that is broken.
BpeDescription describe_tiktoken(std::string_view text, std::string_view where);

}  // namespace qlora::text
