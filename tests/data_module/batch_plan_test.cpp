#include "qlora/data/batch_plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <span>

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

TEST(Batch, PadsOnTheRightAndLearnsNoFirstToken) {
  auto samples = list_of({3, 5});
  samples[0].labels = {0, 0, 0};
  samples[1].weight = 0.25f;
  const Batch batch = make_batch(std::vector<std::vector<Sample>>{{samples[0]}, {samples[1]}}, 99);
  EXPECT_EQ(batch.rows, 2);
  EXPECT_EQ(batch.length, 5);
  EXPECT_EQ(batch.input_ids, (std::vector<std::int64_t>{0, 0, 0, 99, 99, 1, 1, 1, 1, 1}));
  const std::int64_t n = kNotLearned;
  EXPECT_EQ(batch.labels, (std::vector<std::int64_t>{n, 0, 0, n, n, n, n, n, 1, 1}));
  EXPECT_EQ(batch.samples_in_row, (std::vector<std::int64_t>{1, 1}));
  EXPECT_FALSE(batch.packed());
  EXPECT_EQ(batch.lengths, (std::vector<std::int64_t>{3, 5}));
  EXPECT_EQ(batch.sample_ids, (std::vector<std::int64_t>{0, 1}));
  EXPECT_EQ(batch.label_count, 4);
  EXPECT_EQ(batch.weights, (std::vector<float>{1, 0.25f}));
  EXPECT_EQ(batch.label_weight, 2 + 2 * 0.25);
  EXPECT_EQ(batch.token_count, 8);
}

// Every way in which an order is made.
std::vector<BatchOptions> all_orders() {
  return {{.batch_size = 4, .seed = 5},
          {.batch_size = 4, .seed = 5, .group_by_length = true},
          {.batch_size = 4, .seed = 5, .pack_length = 128}};
}

TEST(BatchPlan, EveryEpochIsAnotherPermutation) {
  for (const BatchOptions& options : all_orders()) {
    const BatchPlan plan(many_samples(101), options);
    const auto first = ids_of_epoch(plan, 0);
    const auto second = ids_of_epoch(plan, 1);
    EXPECT_TRUE(is_permutation_of(first, 101));
    EXPECT_TRUE(is_permutation_of(second, 101));
    EXPECT_NE(first, second);
  }
  const BatchPlan plan(many_samples(101), {.batch_size = 4});
  EXPECT_EQ(plan.batches_per_epoch(), 26);
  EXPECT_EQ(plan.get(0, 25).rows, 1);
}

TEST(BatchPlan, IsAPureFunctionOfSeedAndPosition) {
  for (const BatchOptions& options : all_orders()) {
    const BatchPlan plan(many_samples(50), options);
    const auto whole = ids_of_epoch(plan, 3);
    const std::int64_t last = plan.batches_per_epoch() - 1;
    const BatchPlan fresh(many_samples(50), options);
    const Batch resumed = fresh.get(3, last);  // without anything before it
    EXPECT_EQ(resumed.input_ids, plan.get(3, last).input_ids);
    EXPECT_TRUE(std::equal(resumed.sample_ids.rbegin(), resumed.sample_ids.rend(), whole.rbegin()));
    BatchOptions other = options;
    other.seed = 6;
    EXPECT_NE(ids_of_epoch(BatchPlan(many_samples(50), other), 3), whole);
  }
}

TEST(BatchPlan, TheLongestRowIsInTheFirstBatch) {
  for (const BatchOptions& options : all_orders()) {
    const BatchPlan plan(many_samples(101), options);
    for (const std::int64_t epoch : {0, 3}) {
      EXPECT_EQ(plan.get(epoch, 0).length, plan.longest());
    }
  }
}

TEST(BatchPlan, TheLargestBoundsEveryBatch) {
  for (const BatchOptions& options : all_orders()) {
    const BatchPlan plan(many_samples(101), options);
    const LargestBatch largest = plan.largest();
    EXPECT_EQ(largest.length, plan.longest());
    for (const std::int64_t epoch : {0, 3}) {
      for (std::int64_t b = 0; b < plan.batches_per_epoch(); ++b) {
        const Batch batch = plan.get(epoch, b);
        EXPECT_LE(batch.rows, largest.rows);
        EXPECT_LE(std::ssize(batch.sample_ids), largest.samples);
      }
    }
  }
  // Rows of 128 tokens: one that is full, and one of three samples.
  const auto sized = [](std::int64_t tokens) {
    Sample sample;
    sample.ids.assign(static_cast<std::size_t>(tokens), 1);
    sample.labels = sample.ids;
    return sample;
  };
  const SampleStore samples(std::vector<Sample>{sized(128), sized(40), sized(44), sized(44)});
  const LargestBatch both = BatchPlan(samples, {.batch_size = 8, .pack_length = 128}).largest();
  EXPECT_EQ(both.rows, 2);
  EXPECT_EQ(both.samples, 4);
  EXPECT_EQ(BatchPlan(samples, {.batch_size = 1, .pack_length = 128}).largest().samples, 3);
}

TEST(BatchPlan, PackedRowsHoldEverySampleWhole) {
  const SampleStore samples = many_samples(300);
  const BatchPlan plan(samples, {.batch_size = 3, .pad_id = 7777, .pack_length = 128});
  std::vector<std::int64_t> seen;
  for (std::int64_t b = 0; b < plan.batches_per_epoch(); ++b) {
    const Batch batch = plan.get(1, b);
    EXPECT_TRUE(batch.packed());
    std::size_t next = 0;
    for (std::int64_t row = 0; row < batch.rows; ++row) {
      std::int64_t at = row * batch.length;
      for (std::int64_t k = 0; k < batch.samples_in_row[static_cast<std::size_t>(row)]; ++k) {
        const Sample expected = samples.get(batch.sample_ids[next]);  // ids are positions here
        EXPECT_EQ(batch.lengths[next], std::ssize(expected.ids));
        EXPECT_TRUE(std::ranges::equal(
            expected.ids,
            std::span(batch.input_ids).subspan(static_cast<std::size_t>(at), expected.ids.size())));
        EXPECT_TRUE(std::ranges::equal(
            expected.labels,
            std::span(batch.labels).subspan(static_cast<std::size_t>(at), expected.labels.size())));
        at += batch.lengths[next];
        seen.push_back(batch.sample_ids[next++]);
      }
      EXPECT_LE(at, row * batch.length + 128);
      for (; at < (row + 1) * batch.length; ++at) {
        EXPECT_EQ(batch.input_ids[static_cast<std::size_t>(at)], 7777);
        EXPECT_EQ(batch.labels[static_cast<std::size_t>(at)], kNotLearned);
      }
    }
    EXPECT_EQ(next, batch.sample_ids.size());
  }
  EXPECT_TRUE(is_permutation_of(seen, 300));
}

TEST(BatchPlan, CountsThePaddingOfAnEpoch) {
  for (const BatchOptions& options : all_orders()) {
    const BatchPlan plan(many_samples(101), options);
    EpochSize counted;
    for (std::int64_t i = 0; i < plan.batches_per_epoch(); ++i) {
      const Batch batch = plan.get(1, i);
      counted.rows += batch.rows;
      counted.tokens += batch.token_count;
      counted.cells += batch.rows * batch.length;
    }
    const EpochSize size = plan.size(1);
    EXPECT_EQ(size.rows, counted.rows);
    EXPECT_EQ(size.tokens, counted.tokens);
    EXPECT_EQ(size.cells, counted.cells);
  }
  EXPECT_EQ(BatchPlan(SampleStore(list_of({3, 5, 4})), {.batch_size = 3}).describe(),
            "an epoch: 3 samples of at most 5 tokens, 1 batches of 3; padding is 20.00 % of them");
  EXPECT_EQ(
      BatchPlan(SampleStore(list_of({3, 5, 4})), {.batch_size = 2, .pack_length = 8}).describe(),
      "an epoch: 3 samples packed into 2 rows of at most 8 tokens, 1 batches of 2; padding "
      "is 25.00 % of them");
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

TEST(BatchPlan, RanksSharePackedRows) {
  const BatchPlan alone(many_samples(101), {.batch_size = 2, .pack_length = 128});
  for (std::int64_t rank = 0; rank < 3; ++rank) {
    const BatchPlan plan(many_samples(101),
                         {.batch_size = 2, .pack_length = 128, .rank = rank, .world = 3});
    for (std::int64_t i = 0; i < plan.batches_per_epoch(); ++i) {
      const std::int64_t of_all = i * 3 + rank;
      if (of_all >= alone.batches_per_epoch()) continue;
      EXPECT_EQ(plan.get(1, i).input_ids, alone.get(1, of_all).input_ids);
    }
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
