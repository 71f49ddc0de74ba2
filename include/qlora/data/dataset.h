#pragma once
// Files of samples -> tokens and labels.
//
// Files: JSON (a list of objects), JSONL (an object a line), CSV, TSV, plain text, all of these
// also under gzip or zstd, and Parquet; UTF-8. They are read once, a few rows at a time, and
// samples lie on disk: memory holds 16 bytes a sample, whatever the size of the files.
//
// Formats (data.format; "auto" looks at the columns of each file's first row):
//   instruction        instruction, output, optional input, system and history (a list of
//                      [question, answer]). A user turn (instruction, blank line, input) and the
//                      assistant's answer, by the model's chat template; without one, Stanford
//                      Alpaca's prompt text and EOS behind the output.
//   dolly              the same from instruction, response, optional context.
//   kullm              the same from instruction and instances: [{input, output}, ...].
//   question_answer    the same from two columns such as question and answer.
//   messages           messages: [{role, content}, ...], optional tools. A content is a text, or
//                      a list of {"type": "text", "text": ...}; tool_calls are kept.
//   sharegpt           conversations: [{from, value}, ...], optional tools and system.
//   prompt_completion  prompt, completion: both texts (written out as they are, special tokens
//                      included, EOS added) or both lists of messages.
//   text               text: all of it is learned, as it is, with EOS.
//   tokens             input_ids, optional labels (-100: not learned; not shifted).
//   classification     text and label: checked, but a language model does not learn from them.
// With data.template the row's columns go into that text, whatever their format. A source may have
// a format and a template of its own.
//
// Learned is what the assistant says and the special tokens that end it, nothing else: not the
// line end behind that token, not the prompt, not an answer that says nothing or whose message has
// "weight": 0 or "train": false. data.train_on_inputs, train_on_eos and mask_history change that.

#include "qlora/data/data_config.h"
#include "qlora/data/sample_store.h"
#include "qlora/text/tokenizer.h"

#include <cstdint>
#include <string>
#include <vector>

namespace qlora::data {

// Rows that data.on_error = skip left out for one reason.
struct SkippedRows {
  std::string reason;
  std::int64_t rows = 0;
  std::string first;  // the first one's error

  bool operator==(const SkippedRows&) const = default;
};

// What became of the rows of one source: an entry of data.train or data.validation.
struct SourceStats {
  std::string name;        // as written
  std::string formats;     // "messages"; "messages, text" where its files differ
  std::int64_t files = 0;  // that were read
  std::int64_t rows = 0;
  std::int64_t samples = 0;
  std::int64_t tokens = 0;
  std::int64_t learned_tokens = 0;
  std::int64_t longest = 0;         // tokens, after cutting
  std::int64_t truncated = 0;       // cut to max_length but still of use
  std::int64_t tokens_cut = 0;      // off these
  std::int64_t split = 0;           // made into several by truncation_mode: split
  std::int64_t no_answer = 0;       // dropped: nothing that an assistant says
  std::int64_t answer_cut = 0;      // dropped: max_length cuts the whole answer off
  std::int64_t too_long = 0;        // dropped: longer than max_length (truncation_mode: drop)
  std::int64_t without_end = 0;     // no special token ends the answer: the model learns no end
  std::int64_t calls_left_out = 0;  // samples with tool calls that the chat template does not write
  std::int64_t held_out = 0;        // samples that data.validation_split took
  std::int64_t per_epoch = 0;       // samples of an epoch, by the source's weight
  std::vector<SkippedRows> skipped;

  bool operator==(const SourceStats&) const = default;
  // Every member but `skipped` by its name.
  template <class V>
  void visit(V&& v) {
    v("name", name), v("formats", formats), v("files", files), v("rows", rows);
    v("samples", samples), v("tokens", tokens), v("learned_tokens", learned_tokens);
    v("longest", longest), v("truncated", truncated), v("tokens_cut", tokens_cut);
    v("split", split), v("calls_left_out", calls_left_out);
    v("no_answer", no_answer), v("answer_cut", answer_cut), v("too_long", too_long);
    v("without_end", without_end), v("held_out", held_out), v("per_epoch", per_epoch);
  }
};

struct Dataset {
  SampleStore train;
  SampleStore validation;            // empty where none is asked for
  std::vector<std::string> files;    // all that were read; Sample::file counts them
  std::vector<SourceStats> sources;  // of train, then of validation
};

// Reads and tokenizes what the config names, on all cores, or takes what an earlier run made of the
// same bytes, tokenizer and settings from data.cache_dir. With validation_split that share of the
// training samples, drawn by `seed`, is held out; weights apply to the others. Throws Error
// "file:line: ..." for the first bad row (unless they are skipped), a source without samples, and
// a split that leaves one side empty; and for a file that changes meanwhile.
Dataset load_dataset(const DataConfig& config, const text::Tokenizer& tokenizer,
                     std::uint64_t seed);

}  // namespace qlora::data
