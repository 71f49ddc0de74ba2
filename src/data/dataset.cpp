#include "qlora/data/dataset.h"

#include "data/chat_labels.h"
#include "data/encode_sample.h"
#include "data/formats.h"
#include "data/row_file.h"
#include "data/sample_writer.h"
#include "qlora/base/parallel.h"
#include "qlora/base/random.h"

#include <algorithm>
#include <cmath>
#include <mutex>
#include <utility>

namespace qlora::data {
namespace {

// Rows that one thread takes at a time.
constexpr std::int64_t kGrain = 16;

struct Outcome {
  Sample sample;  // empty where the row was dropped
  bool no_answer = false;
  bool answer_cut = false;
  bool truncated = false;
  bool without_end = false;
};

// Keeps the first max_length tokens.
void cut(Outcome& outcome, std::int64_t max_length) {
  Sample& sample = outcome.sample;
  const bool had_labels = sample.label_count() > 0;
  if (std::ssize(sample.ids) > max_length) {
    sample.ids.resize(static_cast<std::size_t>(max_length));
    sample.labels.resize(static_cast<std::size_t>(max_length));
    outcome.truncated = true;
  }
  if (sample.label_count() > 0) return;
  outcome.no_answer = !had_labels;
  outcome.answer_cut = had_labels;
  sample = {};
}

class Reader {
 public:
  Reader(const std::string& path, const DataConfig& config, const text::Tokenizer& tokenizer)
      : file_(path),
        config_(config),
        tokenizer_(tokenizer),
        labeller_(tokenizer),
        format_(find_format(config.format, file_.parse(0), file_.where(0))) {}

  // Every row's outcome, in the order of the file; the first bad row's error.
  std::vector<Outcome> read() {
    std::vector<Outcome> outcomes(static_cast<std::size_t>(file_.size()));
    parallel_for(file_.size(), kGrain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        try {
          outcomes[static_cast<std::size_t>(i)] = read_row(i);
        } catch (const Error& error) {
          return remember(i, error.what());
        }
      }
    });
    if (bad_row_ >= 0) throw Error(problem_);
    return outcomes;
  }

  std::string format_name() const { return std::string(enum_name(format_.format)); }

 private:
  Outcome read_row(std::int64_t i) const {
    const std::string where = file_.where(i);
    const Example example = read_example(format_, file_.parse(i), where);
    Outcome outcome;
    try {
      const LabelledText labelled = labeller_.label(example);
      outcome.sample = encode_sample(tokenizer_, labelled);
      outcome.without_end = !labelled.ends_marked;
    } catch (const Error& error) {
      fail("{}: {}", where, error.what());
    }
    outcome.sample.id = i;
    outcome.sample.line = file_.line(i);
    cut(outcome, config_.max_length);
    return outcome;
  }

  void remember(std::int64_t row, std::string problem) {
    const std::lock_guard lock(mutex_);
    if (bad_row_ >= 0 && bad_row_ < row) return;
    bad_row_ = row;
    problem_ = std::move(problem);
  }

  RowFile file_;
  const DataConfig& config_;
  const text::Tokenizer& tokenizer_;
  Labeller labeller_;
  const Format& format_;
  std::mutex mutex_;
  std::int64_t bad_row_ = -1;
  std::string problem_;
};

SampleStore read_file(const std::string& path, const DataConfig& config,
                      const text::Tokenizer& tokenizer, std::vector<FileStats>& files) {
  Reader reader(path, config, tokenizer);
  std::vector<Outcome> outcomes = reader.read();
  FileStats stats;
  stats.path = path;
  stats.format = reader.format_name();
  stats.rows = std::ssize(outcomes);
  SampleWriter samples;
  for (Outcome& outcome : outcomes) {
    stats.no_answer += outcome.no_answer;
    stats.answer_cut += outcome.answer_cut;
    if (outcome.sample.ids.empty()) continue;
    stats.truncated += outcome.truncated;
    stats.without_end += outcome.without_end;
    stats.tokens += std::ssize(outcome.sample.ids);
    stats.learned_tokens += outcome.sample.label_count();
    stats.longest = std::max(stats.longest, std::ssize(outcome.sample.ids));
    outcome.sample.file = static_cast<std::int32_t>(files.size());
    samples.append(outcome.sample);
  }
  stats.samples = samples.size();
  if (samples.size() == 0) {
    fail(
        "{}: none of the {} rows has anything to learn: {} without an answer, {} whose answer "
        "data.max_length = {} cuts off",
        path, stats.rows, stats.no_answer, stats.answer_cut, config.max_length);
  }
  files.push_back(std::move(stats));
  return samples.finish();
}

// Moves a random share of train into validation; both keep the order of the file.
void split(Dataset& dataset, double share, std::uint64_t seed) {
  const std::int64_t count = dataset.train.size();
  const auto held_out = static_cast<std::int64_t>(std::ceil(share * static_cast<double>(count)));
  if (held_out >= count) {
    fail("data.validation_split: {} of {} samples leaves none to train on", share, count);
  }
  const auto order = permutation(count, RandomStream(seed, "validation split"));
  std::vector<bool> chosen(static_cast<std::size_t>(count), false);
  for (std::int64_t i = 0; i < held_out; ++i) {
    chosen[static_cast<std::size_t>(order[static_cast<std::size_t>(i)])] = true;
  }
  dataset.validation = dataset.train.take(chosen);
}

}  // namespace

Dataset load_dataset(const DataConfig& config, const text::Tokenizer& tokenizer,
                     std::uint64_t seed) {
  Dataset dataset;
  dataset.train = read_file(config.train, config, tokenizer, dataset.files);
  if (config.validation) {
    dataset.validation = read_file(*config.validation, config, tokenizer, dataset.files);
  } else if (config.validation_split > 0) {
    split(dataset, config.validation_split, seed);
  }
  return dataset;
}

}  // namespace qlora::data
