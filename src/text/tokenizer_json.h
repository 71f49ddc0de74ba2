#pragma once
// Reading and writing tokenizer.json (the Hugging Face `tokenizers` format) with a BPE model.

#include "qlora/base/json.h"
#include "text/bpe_model.h"

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace qlora::text {

using Vocabulary = std::vector<std::pair<std::string, std::int32_t>>;

// tokenizer.json with model.vocab taken out of the JSON: it has 100,000 keys and more, and an
// ordered JSON object looks through all of them for each new one.
struct TokenizerFile {
  Json rest;  // everything else; model.vocab is null
  Vocabulary vocabulary;
};

// Throws Error where the text is not JSON or the vocabulary is no object of whole numbers.
TokenizerFile parse_tokenizer_file(std::string_view text, std::string_view where);

// The text of the whole file, as the Hugging Face library reads it.
std::string print_tokenizer_file(const TokenizerFile& file);

// Why this program cannot use the file's model ("a Unigram model"), or empty where it can.
std::string unsupported_model(const TokenizerFile& file);

// Throws Error naming what is missing, contradictory or of an unknown type.
BpeDescription describe_bpe(const TokenizerFile& file, std::string_view where);

}  // namespace qlora::text
