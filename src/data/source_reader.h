#pragma once
// The rows of a source's files as samples, on all cores.

#include "data/chat_labels.h"
#include "data/data_files.h"
#include "data/row_error.h"
#include "data/row_reader.h"
#include "data/sample_writer.h"
#include "qlora/data/dataset.h"

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace qlora::data {

class SourceReader {
 public:
  // Refers to its arguments, which must outlive it; appends the files that it reads to `files`.
  // Throws Error where a setting is wrong.
  SourceReader(const DataConfig& config, const text::Tokenizer& tokenizer,
               std::vector<std::string>& files);

  // Appends the source's samples in the order of its files and rows. Throws Error.
  SourceStats read(const DataSource& source, SampleWriter& samples);

 private:
  // What became of one example.
  struct Outcome {
    std::vector<Sample> samples;  // several where it was split; none where it was dropped
    bool no_answer = false;
    bool answer_cut = false;
    bool too_long = false;
    std::int64_t tokens_cut = 0;
    bool split = false;
    bool without_end = false;
    bool calls_left_out = false;
  };
  // What became of one row.
  struct Result {
    std::vector<Outcome> outcomes;  // in the order of the row's examples
    std::optional<RowError> problem;
  };
  struct Skips {
    std::int64_t rows = 0;
    std::string first;
  };

  void read_file(const std::filesystem::path& path, SampleWriter& samples);
  bool next_rows(RowReader& reader, std::vector<Row>& rows);
  void find_format_of(const RowReader& reader, const std::vector<Row>& rows);
  std::vector<Outcome> read_row(const RowReader& reader, const Row& row) const;
  std::vector<Example> examples_of(const Json& columns, const std::string& where) const;
  std::vector<Example> fill_template(const Json& columns, const std::string& where) const;
  Outcome encode(const Example& example, const std::string& where) const;
  void rename(Json& columns) const;
  float weight_of(const Json& columns, const std::string& where) const;
  bool has_enough() const;
  void add(Result& result, std::int64_t line, SampleWriter& samples);
  void append(const Sample& sample, SampleWriter& samples);
  void skip(const RowError& problem);

  const DataConfig& config_;
  const text::Tokenizer& tokenizer_;
  std::vector<std::string>& files_;
  Labeller labeller_;
  std::vector<std::pair<std::string, std::string>> renamed_;  // from, to
  std::int64_t next_id_ = 0;
  // Of the source at hand.
  const DataSource* source_ = nullptr;
  SourceStats stats_;
  std::map<RowFault, Skips> skipped_;
  // Of the file at hand: nothing until a row tells; null where only a template fits.
  std::optional<const Format*> format_;
  bool file_failed_ = false;  // what is left of it cannot be read
};

}  // namespace qlora::data
