#include "data/token_cache.h"

#include "data_module/dataset_files.h"
#include "qlora/base/directory.h"

#include <atomic>
#include <cstdlib>
#include <functional>
#include <thread>

namespace qlora::data {
namespace {

namespace fs = std::filesystem;

using test::config_for;
using test::FakeTokenizer;
using test::many_rows;

// Counts what it encodes; its definition is known, so that samples are kept.
class CountingTokenizer : public FakeTokenizer {
 public:
  explicit CountingTokenizer(std::uint64_t definition = 1,
                             std::string chat_template = test::kChatMl)
      : FakeTokenizer(std::move(chat_template), definition) {}

  std::int64_t count() const { return count_; }
  std::function<void()> on_encode = [] {};

 protected:
  std::vector<std::int32_t> encode_valid(std::string_view text,
                                         std::span<const text::TextRange> plain) const override {
    on_encode();
    ++count_;
    return FakeTokenizer::encode_valid(text, plain);
  }

 private:
  mutable std::atomic<std::int64_t> count_ = 0;
};

// Three good rows and one that is skipped.
DataConfig cached_config(const std::string& more = "") {
  DataConfig config = config_for(many_rows(3) + "{\n" + more);
  config.on_error = OnError::Skip;
  config.cache_dir = qlora::test::fresh_folder("cache").string();
  return config;
}

void expect_same(const Dataset& got, const Dataset& expected) {
  ASSERT_EQ(got.train.size(), expected.train.size());
  for (std::int64_t i = 0; i < got.train.size(); ++i) {
    const Sample a = got.train.get(i), b = expected.train.get(i);
    EXPECT_EQ(a.ids, b.ids);
    EXPECT_EQ(a.labels, b.labels);
    EXPECT_EQ(std::tuple(a.id, a.file, a.line), std::tuple(b.id, b.file, b.line));
  }
  EXPECT_EQ(got.files, expected.files);
  ASSERT_EQ(got.sources.size(), expected.sources.size());
  for (std::size_t i = 0; i < got.sources.size(); ++i) {
    EXPECT_EQ(got.sources[i], expected.sources[i]);
  }
}

std::vector<fs::path> entries_of(const DataConfig& config) {
  return directory_entries(*config.cache_dir);
}

TEST(TokenCache, TheSecondRunTokenizesNothing) {
  DataConfig config = cached_config();
  config.validation = config.train;
  const CountingTokenizer tokenizer, again;
  const Dataset first = load_dataset(config, tokenizer, 0);
  EXPECT_GT(tokenizer.count(), 0);
  EXPECT_EQ(first.sources.at(0).skipped.size(), 1u);
  const Dataset second = load_dataset(config, again, 0);
  EXPECT_EQ(again.count(), 0);
  expect_same(second, first);
  EXPECT_EQ(second.validation.get(1).file, 1);
  EXPECT_EQ(entries_of(config).size(), 2u);  // train and validation, nothing beside them
}

TEST(TokenCache, WhateverChangesTheSamplesMakesAnotherEntry) {
  const DataConfig config = cached_config();
  load_dataset(config, CountingTokenizer(), 0);
  const auto misses = [](const DataConfig& changed, const CountingTokenizer& tokenizer) {
    load_dataset(changed, tokenizer, 0);
    return tokenizer.count() > 0;
  };
  EXPECT_FALSE(misses(config, CountingTokenizer()));
  EXPECT_TRUE(misses(config, CountingTokenizer(2)));
  EXPECT_TRUE(misses(config, CountingTokenizer(1, test::kChatMl + std::string("\n"))));
  DataConfig shorter = config;
  shorter.max_length = 100;
  EXPECT_TRUE(misses(shorter, CountingTokenizer()));
  DataConfig fewer = config;
  fewer.max_samples = 1;
  EXPECT_TRUE(misses(fewer, CountingTokenizer()));
  DataConfig named = config;
  named.train[0].format = DataFormat::Instruction;
  EXPECT_TRUE(misses(named, CountingTokenizer()));
  EXPECT_FALSE(misses(named, CountingTokenizer()));
  DataConfig prompted = config;
  prompted.train[0].prompt_template = "{instruction}{output}";
  EXPECT_TRUE(misses(prompted, CountingTokenizer()));
  prompted.prompt_template = std::exchange(prompted.train[0].prompt_template, std::nullopt);
  EXPECT_FALSE(misses(prompted, CountingTokenizer()));  // of all sources, which is the same
  prompted.train[0].prompt_template = "";
  EXPECT_FALSE(misses(prompted, CountingTokenizer()));  // none, as in the first run
  DataConfig packed = config;                           // what is done with the samples afterwards
  packed.packing = true;
  packed.train[0].weight = 2;
  EXPECT_FALSE(misses(packed, CountingTokenizer()));
  const fs::path file = config.train.at(0).path;
  std::string text = read_text(file);
  text.replace(text.find("q1"), 2, "Q1");  // of the same size
  write_text(file, text);
  EXPECT_TRUE(misses(config, CountingTokenizer()));
}

TEST(TokenCache, ABrokenEntryIsMadeAgain) {
  const DataConfig config = cached_config();
  const Dataset first = load_dataset(config, CountingTokenizer(), 0);
  const fs::path entry = entries_of(config).at(0);
  const std::string whole = read_text(entry);
  std::vector<std::string> broken{"", whole.substr(0, 20), whole.substr(1)};
  broken.push_back(whole);
  broken.back()[whole.size() - 60] ^= 1;  // of the text
  broken.push_back(whole);
  broken.back()[whole.size() - 1] ^= 1;  // of the magic number
  for (const std::string& bytes : broken) {
    write_text(entry, bytes);
    const CountingTokenizer tokenizer;
    expect_same(load_dataset(config, tokenizer, 0), first);
    EXPECT_GT(tokenizer.count(), 0);
    EXPECT_EQ(read_text(entry), whole);
  }
}

TEST(TokenCache, SeveralRunsMayMakeOneEntry) {
  const DataConfig config = cached_config(many_rows(300));
  DataConfig alone = config;
  alone.cache_dir = "";
  const Dataset expected = load_dataset(alone, CountingTokenizer(), 0);
  std::vector<Dataset> datasets(4);
  std::vector<std::thread> runs;
  for (Dataset& dataset : datasets) {
    runs.emplace_back([&] { dataset = load_dataset(config, CountingTokenizer(), 0); });
  }
  for (std::thread& run : runs) run.join();
  for (const Dataset& dataset : datasets) expect_same(dataset, expected);
  EXPECT_EQ(entries_of(config).size(), 1u);
}

TEST(TokenCache, AFileThatChangesMeanwhileIsRefused) {
  const DataConfig config = cached_config();
  const std::string file = config.train.at(0).path;
  CountingTokenizer tokenizer;
  tokenizer.on_encode = [&] { fs::resize_file(file, 10); };
  EXPECT_EQ(qlora::test::message_of([&] { load_dataset(config, tokenizer, 0); }),
            file + ": changed while it was read; start again when it is complete");
  EXPECT_TRUE(entries_of(config).empty());
}

TEST(TokenCache, GoesOnWithoutAFolderOfItsOwn) {
  DataConfig config = cached_config();
  for (const char* folder : {"", "/proc/nowhere"}) {
    config.cache_dir = folder;
    EXPECT_EQ(load_dataset(config, CountingTokenizer(), 0).train.size(), 3);
  }
}

TEST(TokenCache, LiesWhereCachesLie) {
  const auto with = [](const char* key, const char* value, const auto& action) {
    const char* const before = std::getenv(key);
    const std::string kept = before == nullptr ? "" : before;
    value == nullptr ? ::unsetenv(key) : ::setenv(key, value, 1);
    const fs::path result = action();
    before == nullptr ? ::unsetenv(key) : ::setenv(key, kept.c_str(), 1);
    return result;
  };
  const auto folder = [] { return cache_folder({}); };
  EXPECT_EQ(with("XDG_CACHE_HOME", "/x", folder), "/x/qlora");
  EXPECT_EQ(with("XDG_CACHE_HOME", nullptr, [&] { return with("HOME", "/h", folder); }),
            "/h/.cache/qlora");
  EXPECT_EQ(with("XDG_CACHE_HOME", nullptr, [&] { return with("HOME", nullptr, folder); }), "");
}

}  // namespace
}  // namespace qlora::data
