#include "qlora/data/dataset.h"

#include "data/source_reader.h"
#include "data/token_cache.h"
#include "qlora/base/random.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <utility>

namespace qlora::data {
namespace {

// `count` of `total` positions, drawn by the stream.
std::vector<bool> draw(std::int64_t count, std::int64_t total, const RandomStream& stream) {
  const auto order = permutation(total, stream);
  std::vector<bool> chosen(static_cast<std::size_t>(total), false);
  for (std::int64_t i = 0; i < count; ++i) {
    chosen[static_cast<std::size_t>(order[static_cast<std::size_t>(i)])] = true;
  }
  return chosen;
}

// Moves a random share of train into validation; both keep the order of the files.
void split(Dataset& dataset, double share, std::uint64_t seed) {
  const std::int64_t count = dataset.train.size();
  const auto held_out = static_cast<std::int64_t>(std::ceil(share * static_cast<double>(count)));
  if (held_out >= count) {
    fail("data.validation_split: {} of {} samples leaves none to train on", share, count);
  }
  const std::vector<bool> chosen = draw(held_out, count, RandomStream(seed, "validation split"));
  dataset.validation = dataset.train.take(chosen);
  std::size_t i = 0;
  for (SourceStats& source : dataset.sources) {
    for (std::int64_t k = 0; k < source.samples; ++k) source.held_out += chosen[i++] ? 1 : 0;
    source.per_epoch = source.samples - source.held_out;
  }
}

// Weight w: every sample of the source floor(w) times, and a share of them, always the same ones,
// once more.
void weigh(Dataset& dataset, const std::vector<SourceConfig>& train, std::uint64_t seed) {
  std::vector<bool> dropped(static_cast<std::size_t>(dataset.train.size()), false);
  std::int64_t begin = 0;
  for (std::size_t s = 0; s < train.size(); ++s) {
    SourceStats& source = dataset.sources[s];
    const std::int64_t count = source.per_epoch;
    const auto whole = static_cast<std::int32_t>(train[s].weight);
    const auto more = std::llround((train[s].weight - whole) * static_cast<double>(count));
    const std::vector<bool> once_more =
        draw(more, count, RandomStream(seed, fmt::format("weight of source {}", s)));
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int32_t times = whole + (once_more[static_cast<std::size_t>(i)] ? 1 : 0);
      dropped[static_cast<std::size_t>(begin + i)] = times == 0;
      for (std::int32_t copy = 1; copy < times; ++copy) dataset.train.repeat(begin + i, copy);
    }
    source.per_epoch = whole * count + more;
    begin += count;
  }
  dropped.resize(static_cast<std::size_t>(dataset.train.size()), false);
  dataset.train.take(dropped);
  if (dataset.train.empty()) fail("data.train: the weights leave no sample to train on");
}

// The samples of the sources; appends to the data set's lists of files and of sources.
SampleStore read_sources(const DataConfig& config, const text::Tokenizer& tokenizer,
                         const std::vector<DataSource>& sources, Dataset& dataset) {
  const std::size_t first_file = dataset.files.size();
  const std::size_t first_source = dataset.sources.size();
  TokenCache cache(config, tokenizer, sources, first_file);
  if (std::optional<TokenizedSources> found = cache.find()) {
    std::ranges::move(found->files, std::back_inserter(dataset.files));
    std::ranges::move(found->sources, std::back_inserter(dataset.sources));
    return found->samples;
  }
  SourceReader reader(config, tokenizer, dataset.files);
  SampleWriter samples(cache.make_file());
  for (const DataSource& source : sources) {
    dataset.sources.push_back(reader.read(source, samples));
  }
  return cache.keep(samples, std::span(dataset.files).subspan(first_file),
                    std::span(dataset.sources).subspan(first_source));
}

}  // namespace

Dataset load_dataset(const DataConfig& config, const text::Tokenizer& tokenizer,
                     std::uint64_t seed) {
  const std::vector<DataSource> train = find_sources(config.train, config, "data.train");
  const std::vector<DataSource> validation =
      find_sources(config.validation, config, "data.validation");
  Dataset dataset;
  dataset.train = read_sources(config, tokenizer, train, dataset);
  if (config.validation_split > 0) split(dataset, config.validation_split, seed);
  if (std::ranges::any_of(config.train, [](const auto& source) { return source.weight != 1; })) {
    weigh(dataset, config.train, seed);
  }
  if (!validation.empty())
    dataset.validation = read_sources(config, tokenizer, validation, dataset);
  return dataset;
}

}  // namespace qlora::data
