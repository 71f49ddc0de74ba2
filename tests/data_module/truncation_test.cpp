#include "data/truncation.h"
#include "data_module/dataset_files.h"

#include <gtest/gtest.h>

namespace qlora::data {
namespace {

using test::config_for;
using test::error_of;
using test::FakeTokenizer;
using test::many_rows;

constexpr auto kNo = static_cast<std::int32_t>(kNotLearned);

// Tokens 0 to 6, the last five learned.
Sample seven() { return {{0, 1, 2, 3, 4, 5, 6}, {kNo, kNo, 2, 3, 4, 5, 6}}; }

std::vector<std::vector<std::int32_t>> labels_of(TruncationMode mode, std::int64_t max_length) {
  std::vector<std::vector<std::int32_t>> labels;
  for (const Sample& piece : fit_to_length(seven(), max_length, mode)) {
    EXPECT_EQ(piece.ids.size(), piece.labels.size());
    labels.push_back(piece.labels);
  }
  return labels;
}

TEST(Truncation, KeepsWhatTheModeSays) {
  using enum TruncationMode;
  EXPECT_EQ(labels_of(KeepStart, 3), (std::vector<std::vector<std::int32_t>>{{kNo, kNo, 2}}));
  EXPECT_EQ(labels_of(KeepEnd, 3), (std::vector<std::vector<std::int32_t>>{{kNo, 5, 6}}));
  EXPECT_EQ(labels_of(Split, 3),
            (std::vector<std::vector<std::int32_t>>{{kNo, kNo, 2}, {kNo, 4, 5}, {kNo}}));
  EXPECT_TRUE(labels_of(Drop, 6).empty());
  for (const TruncationMode mode : {KeepStart, KeepEnd, Split, Drop}) {
    EXPECT_EQ(labels_of(mode, 7).at(0), seven().labels);
  }
}

TEST(Truncation, SplittingKeepsEveryToken) {
  for (const std::int64_t max_length : {2, 3, 4, 6}) {
    std::vector<std::int32_t> ids;
    for (const Sample& piece : fit_to_length(seven(), max_length, TruncationMode::Split)) {
      EXPECT_LE(std::ssize(piece.ids), max_length);
      ids.insert(ids.end(), piece.ids.begin(), piece.ids.end());
    }
    EXPECT_EQ(ids, seven().ids);
  }
}

// A text of 2 and one of 10 characters; BOS and EOS make them 4 and 12 tokens.
Dataset load_texts(TruncationMode mode) {
  DataConfig config = config_for("ab\n0123456789\n", "train.txt");
  config.max_length = 5;
  config.truncation_mode = mode;
  return load_dataset(config, FakeTokenizer(), 0);
}

TEST(Truncation, IsCounted) {
  const Dataset start = load_texts(TruncationMode::KeepStart);
  EXPECT_EQ(start.sources[0].truncated, 1);
  EXPECT_EQ(FakeTokenizer().decode(start.train.get(1).ids), "<s>0123");
  const Dataset end = load_texts(TruncationMode::KeepEnd);
  EXPECT_EQ(end.sources[0].truncated, 1);
  EXPECT_EQ(FakeTokenizer().decode(end.train.get(1).ids), "6789</s>");
  const Dataset split = load_texts(TruncationMode::Split);
  ASSERT_EQ(split.train.size(), 4);
  EXPECT_EQ(split.sources[0].split, 1);
  EXPECT_EQ(split.sources[0].truncated, 0);
  EXPECT_EQ(FakeTokenizer().decode(split.train.get(2).ids), "45678");
  EXPECT_EQ(split.train.get(3).id, 3);  // every piece has random numbers of its own
  EXPECT_EQ(split.train.get(3).line, 2);
  const Dataset drop = load_texts(TruncationMode::Drop);
  EXPECT_EQ(drop.train.size(), 1);
  EXPECT_EQ(drop.sources[0].too_long, 1);
  EXPECT_EQ(drop.sources[0].answer_cut, 0);
}

TEST(Truncation, DroppingEverythingIsRefused) {
  DataConfig config = config_for(many_rows(3));
  config.max_length = 4;
  config.truncation_mode = TruncationMode::Drop;
  EXPECT_EQ(error_of(config),
            "train.jsonl: none of the 3 rows has anything to learn: 0 without an answer, 0 whose "
            "answer data.max_length = 4 cuts off, 3 longer than that");
}

TEST(MaxSamples, TakesTheStartOfEachSource) {
  DataConfig config = config_for(many_rows(30));
  config.train.push_back(config.train[0]);
  config.max_samples = 3;
  const Dataset dataset = load_dataset(config, FakeTokenizer(), 0);
  ASSERT_EQ(dataset.train.size(), 6);
  EXPECT_EQ(dataset.sources[1].samples, 3);
  EXPECT_EQ(dataset.train.get(2).line, 3);
  EXPECT_EQ(dataset.train.get(3).line, 1);
  config.max_samples = 31;
  EXPECT_EQ(load_dataset(config, FakeTokenizer(), 0).train.size(), 60);
}

}  // namespace
}  // namespace qlora::data
