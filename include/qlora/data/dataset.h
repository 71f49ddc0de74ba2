#pragma once
// Files of samples -> tokens and labels.
//
// Formats (data.format; "auto" looks at the first row's columns):
//   instruction        instruction, output, optional input. One user turn (instruction, blank
//                      line, input) and the assistant's answer, by the model's chat template;
//                      without one, Stanford Alpaca's prompt text and EOS behind the output.
//   messages           messages: [{role, content}, ...], optional tools. A content is a text, or
//                      a list of {"type": "text", "text": ...}.
//   prompt_completion  prompt, completion: both texts (written out as they are, special tokens
//                      included, EOS added) or both lists of messages.
// Files are JSON (a list of objects) or JSONL (an object a line), UTF-8.
//
// Learned is what the assistant says and the special token that ends it, nothing else: not the
// line end behind that token, not the prompt.

#include "qlora/data/data_config.h"
#include "qlora/data/sample_store.h"
#include "qlora/text/tokenizer.h"

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace qlora::data {

// What became of a file's rows.
struct FileStats {
  std::string path;
  std::string format;
  std::int64_t rows = 0;
  std::int64_t samples = 0;
  std::int64_t tokens = 0;
  std::int64_t learned_tokens = 0;
  std::int64_t longest = 0;      // tokens, after cutting
  std::int64_t truncated = 0;    // cut to max_length but still of use
  std::int64_t no_answer = 0;    // dropped: nothing that an assistant says
  std::int64_t answer_cut = 0;   // dropped: max_length cuts the whole answer off
  std::int64_t without_end = 0;  // no special token ends the answer: the model learns no end
};

struct Dataset {
  SampleStore train;
  SampleStore validation;        // empty where none is asked for
  std::vector<FileStats> files;  // of train, then of validation where it has its own file
};

// Reads and tokenizes what the config names, on all cores. With validation_split that share of the
// training samples, drawn by `seed`, is held out. Throws Error "file:line: ..." for the first bad
// row, a file without samples, and a split that leaves one side empty.
Dataset load_dataset(const DataConfig& config, const text::Tokenizer& tokenizer,
                     std::uint64_t seed);

}  // namespace qlora::data
