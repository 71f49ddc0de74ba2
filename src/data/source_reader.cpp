#include "data/source_reader.h"

#include "data/encode_sample.h"
#include "data/truncation.h"
#include "qlora/base/narrow.h"
#include "qlora/base/parallel.h"
#include "qlora/base/text_util.h"

#include <algorithm>
#include <cmath>

namespace qlora::data {
namespace {

// Rows that are in memory at a time: so many, or so many bytes of text.
constexpr std::size_t kBatchRows = 1024;
constexpr std::size_t kBatchBytes = std::size_t{8} << 20;
// Rows that one thread takes at a time.
constexpr std::int64_t kGrain = 16;

std::vector<std::pair<std::string, std::string>> parse_renames(
    const std::vector<std::string>& texts) {
  std::vector<std::pair<std::string, std::string>> renames;
  for (const std::string& text : texts) {
    const std::size_t equals = text.find('=');
    if (equals == std::string::npos || equals == 0 || equals + 1 == text.size()) {
      fail("data.rename_columns: '{}'; expected OLD=NEW, such as query=instruction", text);
    }
    renames.emplace_back(text.substr(0, equals), text.substr(equals + 1));
  }
  return renames;
}

// Tokens that stand in the file.
Sample to_sample(const Tokens& tokens, const text::Tokenizer& tokenizer) {
  Sample sample;
  for (std::size_t i = 0; i < tokens.ids.size(); ++i) {
    const std::int64_t id = tokens.ids[i];
    if (id < 0 || id >= tokenizer.vocab_size()) {
      fail("input_ids[{}] is {}; the tokenizer has {} tokens", i, id, tokenizer.vocab_size());
    }
    sample.ids.push_back(narrow<std::int32_t>(id));
    sample.labels.push_back(narrow<std::int32_t>(i == 0 ? kNotLearned : tokens.labels[i]));
  }
  return sample;
}

}  // namespace

SourceReader::SourceReader(const DataConfig& config, const text::Tokenizer& tokenizer,
                           std::vector<std::string>& files)
    : config_(config),
      tokenizer_(tokenizer),
      files_(files),
      labeller_(tokenizer, label_options(config)),
      renamed_(parse_renames(config.rename_columns)) {}

SourceStats SourceReader::read(const DataSource& source, SampleWriter& samples) {
  source_ = &source;
  stats_ = {};
  skipped_.clear();
  stats_.name = source.name;
  for (const std::filesystem::path& path : source.files) {
    if (has_enough()) break;
    read_file(path, samples);
    ++stats_.files;
  }
  stats_.per_epoch = stats_.samples;
  std::string reasons;
  if (stats_.too_long > 0) reasons = fmt::format(", {} longer than that", stats_.too_long);
  for (const auto& [fault, skips] : skipped_) {
    stats_.skipped.push_back({std::string(name_of(fault)), skips.rows, skips.first});
    reasons += fmt::format(", {} skipped ({}; {})", skips.rows, name_of(fault), skips.first);
  }
  if (stats_.samples == 0) {
    fail(
        "{}: none of the {} rows has anything to learn: {} without an answer, {} whose answer "
        "data.max_length = {} cuts off{}",
        source.name, stats_.rows, stats_.no_answer, stats_.answer_cut, config_.max_length, reasons);
  }
  return std::move(stats_);
}

void SourceReader::read_file(const std::filesystem::path& path, SampleWriter& samples) {
  files_.push_back(path.string());
  format_.reset();
  file_failed_ = false;
  std::unique_ptr<RowReader> reader;
  try {
    reader = open_rows(path, config_.sample_by);
  } catch (const Error& error) {
    return skip(RowError(RowFault::File, error.what()));
  }
  std::vector<Row> rows;
  while (!has_enough() && next_rows(*reader, rows)) {
    if (!format_) find_format_of(*reader, rows);
    std::vector<Result> results(rows.size());
    parallel_for(std::ssize(rows), kGrain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        Result& result = results[static_cast<std::size_t>(i)];
        try {
          result.outcomes = read_row(*reader, rows[static_cast<std::size_t>(i)]);
        } catch (const RowError& error) {
          result.problem = error;
        }
      }
    });
    for (std::size_t i = 0; i < rows.size() && !has_enough(); ++i) {
      add(results[i], rows[i].line, samples);
    }
  }
}

// The next rows that fit into a batch; false where there are none.
bool SourceReader::next_rows(RowReader& reader, std::vector<Row>& rows) {
  rows.clear();
  if (file_failed_) return false;
  try {
    std::size_t bytes = 0;
    while (rows.size() < kBatchRows && bytes < kBatchBytes) {
      Row row;
      if (!reader.next(row)) break;
      bytes += row.text.size();
      rows.push_back(std::move(row));
    }
  } catch (const Error& error) {
    file_failed_ = true;
    skip(RowError(RowFault::File, error.what()));
  }
  return !rows.empty();
}

// The first row that has a known format's columns tells that of the file. A template needs none.
void SourceReader::find_format_of(const RowReader& reader, const std::vector<Row>& rows) {
  for (const Row& row : rows) {
    try {
      Json columns = reader.parse(row);
      rename(columns);
      const std::string where = fmt::format("{}:{}", files_.back(), row.line);
      format_ = source_->prompt ? fitting_format(source_->format, columns)
                                : &find_format(source_->format, columns, where);
      break;
    } catch (const RowError&) {
      if (config_.on_error == OnError::Stop) return;  // reading the row says what is wrong
    }
  }
  if (!format_) return;
  const std::string_view name = source_->prompt ? "template" : enum_name((*format_)->format);
  if (stats_.formats.find(name) != std::string::npos) return;
  stats_.formats += (stats_.formats.empty() ? "" : ", ") + std::string(name);
}

std::vector<SourceReader::Outcome> SourceReader::read_row(const RowReader& reader,
                                                          const Row& row) const {
  Json columns = reader.parse(row);
  rename(columns);
  const std::string where = fmt::format("{}:{}", files_.back(), row.line);
  const float weight = weight_of(columns, where);
  std::vector<Outcome> outcomes;
  for (const Example& example : examples_of(columns, where)) {
    outcomes.push_back(encode(example, where));
    for (Sample& sample : outcomes.back().samples) sample.weight = weight;
  }
  return outcomes;
}

// A number, or the text of one, as CSV has it.
float SourceReader::weight_of(const Json& columns, const std::string& where) const {
  if (!config_.weight_column) return 1;
  const auto found = columns.find(*config_.weight_column);
  if (found == columns.end()) {
    fail_row(RowFault::MissingColumn, "{}: no column '{}', which data.weight_column names", where,
             *config_.weight_column);
  }
  const Json value =
      found->is_string() ? Json::parse(found->get<std::string>(), nullptr, false) : *found;
  const float weight = value.is_number() ? value.get<float>() : 0;
  if (!(weight > 0 && std::isfinite(weight))) {
    fail_row(RowFault::WrongType, "{}: '{}' is {}; expected a number above 0", where,
             *config_.weight_column, found->dump());
  }
  return weight;
}

void SourceReader::rename(Json& columns) const {
  for (const auto& [from, to] : renamed_) {
    const auto found = columns.find(from);
    if (found == columns.end()) continue;
    Json value = std::move(*found);
    columns.erase(from);
    columns[to] = std::move(value);
  }
}

std::vector<Example> SourceReader::examples_of(const Json& columns,
                                               const std::string& where) const {
  if (source_->prompt) return fill_template(columns, where);
  const Format& format = format_ ? **format_ : find_format(source_->format, columns, where);
  if (format.format == DataFormat::Classification) {
    fail(
        "{}: rows of format classification train a classifier, not a language model; "
        "data.template makes texts of them",
        where);
  }
  return read_examples(format, columns, where);
}

// The row's columns, and instruction, input and output where its format has these elsewhere.
std::vector<Example> SourceReader::fill_template(const Json& columns,
                                                 const std::string& where) const {
  std::vector<Example> texts;
  if (format_ && *format_ != nullptr && (*format_)->has_instructions) {
    for (const Example& example : read_examples(**format_, columns, where)) {
      const auto& instruction = std::get<Instruction>(example);
      if (!instruction.history.empty()) {
        fail_row(RowFault::Refused,
                 "{}: data.template has no place for a history; use a chat template", where);
      }
      Json named = columns;
      named.update(columns_of(instruction));
      texts.emplace_back(source_->prompt->fill(named, where));
    }
  } else {
    texts.emplace_back(source_->prompt->fill(columns, where));
  }
  return texts;
}

SourceReader::Outcome SourceReader::encode(const Example& example, const std::string& where) const {
  Outcome outcome;
  Sample sample;
  try {
    if (const auto* tokens = std::get_if<Tokens>(&example)) {
      sample = to_sample(*tokens, tokenizer_);
      outcome.without_end = !sample.ids.empty() && !tokenizer_.is_special(sample.ids.back());
    } else {
      const LabelledText labelled = labeller_.label(example);
      sample = encode_sample(tokenizer_, labelled);
      outcome.without_end = !labelled.ends_marked;
      outcome.calls_left_out = !labelled.calls_written;
    }
  } catch (const Error& error) {
    fail_row(RowFault::Refused, "{}: {}", where, error.what());
  }
  const TruncationMode mode = config_.truncation_mode;
  const bool learns = sample.label_count() > 0;
  const std::int64_t over =
      std::max(std::ssize(sample.ids) - config_.max_length, std::ptrdiff_t{0});
  outcome.samples = fit_to_length(std::move(sample), config_.max_length, mode);
  std::erase_if(outcome.samples, [](const Sample& piece) { return piece.label_count() == 0; });
  const bool dropped = outcome.samples.empty();
  outcome.no_answer = !learns;
  outcome.too_long = learns && over > 0 && mode == TruncationMode::Drop;
  outcome.answer_cut = learns && dropped && !outcome.too_long;
  outcome.split = over > 0 && !dropped && mode == TruncationMode::Split;
  outcome.tokens_cut = dropped || outcome.split ? 0 : over;
  return outcome;
}

// Whether the source has given data.max_samples.
bool SourceReader::has_enough() const {
  return config_.max_samples && stats_.samples >= *config_.max_samples;
}

void SourceReader::add(Result& result, std::int64_t line, SampleWriter& samples) {
  ++stats_.rows;
  if (result.problem) {
    ++next_id_;
    return skip(*result.problem);
  }
  for (Outcome& outcome : result.outcomes) {
    stats_.no_answer += outcome.no_answer;
    stats_.answer_cut += outcome.answer_cut;
    stats_.too_long += outcome.too_long;
    stats_.truncated += outcome.tokens_cut > 0;
    stats_.tokens_cut += outcome.tokens_cut;
    stats_.split += outcome.split;
    stats_.without_end += outcome.without_end && !outcome.samples.empty();
    stats_.calls_left_out += outcome.calls_left_out && !outcome.samples.empty();
    if (outcome.samples.empty()) ++next_id_;
    for (Sample& sample : outcome.samples) {
      if (has_enough()) return;
      sample.id = next_id_++;
      sample.file = narrow<std::int32_t>(files_.size() - 1);
      sample.line = line;
      append(sample, samples);
    }
  }
}

void SourceReader::append(const Sample& sample, SampleWriter& samples) {
  ++stats_.samples;
  stats_.tokens += std::ssize(sample.ids);
  stats_.learned_tokens += sample.label_count();
  stats_.longest = std::max(stats_.longest, std::ssize(sample.ids));
  samples.append(sample);
}

void SourceReader::skip(const RowError& problem) {
  if (config_.on_error == OnError::Stop) throw problem;
  Skips& skips = skipped_[problem.fault()];
  if (skips.rows++ == 0) skips.first = problem.what();
}

}  // namespace qlora::data
