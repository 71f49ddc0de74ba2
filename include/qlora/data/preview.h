#pragma once
// What the model is about to learn, for a person to look at before training, and for programs.

#include "qlora/data/dataset.h"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace qlora::data {

struct PreviewStyle {
  bool colour = false;           // learned text in green (ANSI); else between « and »
  std::size_t max_tokens = 400;  // of one sample; the rest is counted
  std::int64_t max_samples = 3;
};

// The samples of a data set by what they are for.
struct SplitSamples {
  const SampleStore* train = nullptr;
  const SampleStore* validation = nullptr;  // null where there are none
};

// A special token in the samples of a source.
struct SpecialTokenUse {
  std::int32_t id = 0;
  std::int64_t times = 0;
  std::int64_t learned = 0;  // of these
};

// What a walk over the samples of a source finds. Copies by its weight do not count.
struct SourceFindings {
  std::int64_t duplicates = 0;  // samples with the ids and labels of an earlier one of any source
  std::vector<SpecialTokenUse> special_tokens;  // by id
};

// An entry for each of `sources`. Memory: 8 bytes a sample. Throws Error where a sample cannot be
// read.
std::vector<SourceFindings> examine(std::span<const SourceStats> sources,
                                    const SplitSamples& samples, const text::Tokenizer& tokenizer);

// The text of the first samples' tokens, the learned ones marked, each under the file and line that
// it is from (`files`: those of the data set). Control characters come out escaped.
std::string preview_samples(const SampleStore& samples, std::span<const std::string> files,
                            const text::Tokenizer& tokenizer, const PreviewStyle& style);

// A table for each source: rows, samples, tokens, learned tokens, what was cut or dropped and why,
// duplicates, and the special tokens, whose embeddings stay as they are.
std::string preview_stats(const Dataset& dataset, std::span<const SourceFindings> findings,
                          const text::Tokenizer& tokenizer);

// Writes {"sources": [...], "samples": [...]} as JSON: the counts of the tables, and every sample
// once with its split, source, file, row (the line; in Parquet the row), input_ids, labels
// (kNotLearned where a token is not learned; not shifted) and text. Memory: one sample. Throws
// Error where the file cannot be written.
void write_preview_json(const Dataset& dataset, const SplitSamples& samples,
                        const text::Tokenizer& tokenizer, const std::filesystem::path& path);

}  // namespace qlora::data
