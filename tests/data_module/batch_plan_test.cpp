#include "qlora/data/batch_plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

namespace qlora::data {
namespace {

// Sample i has lengths[i] tokens (all i), the last two of them learned.
std::vector<Sample> list_of(const std::vector<std::int64_t>& lengths) {
  std::vector<Sample> samples;
  for (const std::int64_t length : lengths) {
    Sample sample;
    sample.id = std::ssize(samples);
    sample.ids.assign(static_cast<std::size_t>(length), static_cast<std::int32_t>(sample.id));
    sample.labels.assign(static_cast<std::size_t>(length), static_cast<std::int32_t>(kNotLearned));
    for (std::size_t i = sample.ids.size() - 2; i < sample.ids.size(); ++i) {
      sample.labels[i] = sample.ids[i];
    }
    samples.push_back(std::move(sample));
  }
  return samples;
}

SampleStore many_samples(std::int64_t count) {
  std::vector<std::int64_t> lengths;
  for (std::int64_t i = 0; i < count; ++i) lengths.push_back(3 + i * 7919 % 97);
  return SampleStore(list_of(lengths));
}

std::vector<std::int64_t> ids_of_epoch(const BatchPlan& plan, std::int64_t epoch) {
  std::vector<std::int64_t> ids;
  for (std::int64_t i = 0; i < plan.batches_per_epoch(); ++i) {
    const Batch batch = plan.get(epoch, i);
    ids.insert(ids.end(), batch.sample_ids.begin(), batch.sample_ids.end());
  }
  return ids;
}

bool is_permutation_of(std::vector<std::int64_t> ids, std::int64_t count) {
  std::ranges::sort(ids);
  for (std::int64_t i = 0; i < count; ++i) {
    if (std::ssize(ids) != count || ids[static_cast<std::size_t>(i)] != i) return false;
  }
  return true;
}

TEST(Batch, PadsOnTheRightAndCountsShiftedLabels) {
  auto samples = list_of({3, 5});
  samples[0].labels = {0, 0, 0};  // the first position predicts nothing, so 2 count
  const Batch batch = make_batch(samples, 99);
  EXPECT_EQ(batch.rows, 2);
  EXPECT_EQ(batch.length, 5);
  EXPECT_EQ(batch.input_ids, (std::vector<std::int64_t>{0, 0, 0, 99, 99, 1, 1, 1, 1, 1}));
  const std::int64_t n = kNotLearned;
  EXPECT_EQ(batch.labels, (std::vector<std::int64_t>{0, 0, 0, n, n, n, n, n, 1, 1}));
  EXPECT_EQ(batch.lengths, (std::vector<std::int64_t>{3, 5}));
  EXPECT_EQ(batch.sample_ids, (std::vector<std::int64_t>{0, 1}));
  EXPECT_EQ(batch.label_count, 4);
  EXPECT_EQ(batch.token_count, 8);
}

TEST(BatchPlan, EveryEpochIsAnotherPermutation) {
  for (const bool grouped : {false, true}) {
    const BatchPlan plan(many_samples(101), {.batch_size = 4, .group_by_length = grouped});
    EXPECT_EQ(plan.batches_per_epoch(), 26);
    const auto first = ids_of_epoch(plan, 0);
    const auto second = ids_of_epoch(plan, 1);
    EXPECT_TRUE(is_permutation_of(first, 101));
    EXPECT_TRUE(is_permutation_of(second, 101));
    EXPECT_NE(first, second);
    EXPECT_EQ(plan.get(0, 25).rows, 1);
  }
}

TEST(BatchPlan, IsAPureFunctionOfSeedAndPosition) {
  const BatchOptions options{.batch_size = 3, .seed = 5, .group_by_length = true};
  const BatchPlan plan(many_samples(50), options);
  const auto whole = ids_of_epoch(plan, 3);
  const BatchPlan fresh(many_samples(50), options);
  const Batch resumed = fresh.get(3, 7);  // without anything before it
  EXPECT_TRUE(std::equal(resumed.sample_ids.begin(), resumed.sample_ids.end(), whole.begin() + 21));
  BatchOptions other = options;
  other.seed = 6;
  EXPECT_NE(ids_of_epoch(BatchPlan(many_samples(50), other), 3), whole);
}

TEST(BatchPlan, EvaluationKeepsTheOrderOfTheFile) {
  const BatchPlan plan(many_samples(10), {.batch_size = 4, .shuffle = false});
  EXPECT_EQ(ids_of_epoch(plan, 0), (std::vector<std::int64_t>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}));
}

TEST(BatchPlan, GroupingPutsTheLongestFirstAndPadsLess) {
  const auto pads = [](const BatchPlan& plan) {
    std::int64_t count = 0;
    for (std::int64_t i = 0; i < plan.batches_per_epoch(); ++i) {
      const Batch batch = plan.get(2, i);
      count += batch.rows * batch.length - batch.token_count;
    }
    return count;
  };
  const BatchPlan plain(many_samples(400), {.batch_size = 4});
  const BatchPlan grouped(many_samples(400), {.batch_size = 4, .group_by_length = true});
  EXPECT_LT(pads(grouped) * 5, pads(plain));
  EXPECT_EQ(grouped.get(2, 0).length, grouped.longest());
  EXPECT_EQ(grouped.longest(), 99);
}

TEST(BatchPlan, GroupsWithinChunksOfUpdates) {
  // 64 samples, updates of 2 x 4: chunks of 64 / (8 * 4) = 2 updates, sorted by themselves.
  const BatchPlan plan(
      many_samples(64),
      {.batch_size = 2, .group_by_length = true, .gradient_accumulation_steps = 4});
  const auto ids = ids_of_epoch(plan, 0);
  for (std::size_t i = 1; i < 64; ++i) {
    if (i % 16 == 0 || i / 16 == 0) continue;  // the first chunk holds the swapped longest
    const auto length = [&](std::size_t k) { return plan.samples().length(ids[k]); };
    const bool swapped_in = i % 16 == 1 && length(i - 1) < length(i);
    EXPECT_TRUE(swapped_in || length(i - 1) >= length(i)) << i;
  }
}

TEST(BatchPlan, RanksShareTheBatchesRoundRobin) {
  std::set<std::int64_t> seen;
  std::int64_t labels = 0;
  for (std::int64_t rank = 0; rank < 3; ++rank) {
    const BatchPlan plan(many_samples(19), {.batch_size = 2, .rank = rank, .world = 3});
    ASSERT_EQ(plan.batches_per_epoch(), 4);
    const BatchPlan alone(many_samples(19), {.batch_size = 2});
    for (std::int64_t i = 0; i < 4; ++i) {
      const Batch batch = plan.get(1, i);
      labels += batch.label_count;
      if (i * 3 + rank < 10) {
        EXPECT_EQ(batch.sample_ids, alone.get(1, i * 3 + rank).sample_ids);
        seen.insert(batch.sample_ids.begin(), batch.sample_ids.end());
      } else {
        EXPECT_EQ(batch.rows, 1);  // fills the round, adds nothing
        EXPECT_EQ(batch.label_count, 0);
      }
    }
  }
  EXPECT_EQ(seen.size(), 19u);
  EXPECT_EQ(labels, 2 * 19);
}

}  // namespace
}  // namespace qlora::data
