#include "qlora/data/batch_loader.h"

#include <gtest/gtest.h>

namespace qlora::data {
namespace {

BatchPlan small_plan() {
  std::vector<Sample> samples;
  for (std::int32_t i = 0; i < 23; ++i) {
    samples.push_back({{i, i, i}, {static_cast<std::int32_t>(kNotLearned), i, i}, i});
  }
  return BatchPlan(SampleStore(samples), {.batch_size = 2});
}

TEST(BatchLoader, WorkersChangeNothing) {
  const BatchPlan plan = small_plan();
  for (const std::int64_t workers : {0, 1, 4}) {
    BatchLoader loader(plan, workers, 0, 0);
    for (std::int64_t i = 0; i < 40; ++i) {
      const Batch expected = plan.get(i / 12, i % 12);
      const Batch batch = loader.next();
      EXPECT_EQ(batch.sample_ids, expected.sample_ids) << workers << " workers, batch " << i;
      EXPECT_EQ(batch.input_ids, expected.input_ids);
    }
  }
}

TEST(BatchLoader, ResumesAnywhere) {
  const BatchPlan plan = small_plan();
  for (const std::int64_t workers : {0, 2}) {
    BatchLoader whole(plan, workers, 0, 0);
    for (int i = 0; i < 12 + 7; ++i) whole.next();
    BatchLoader resumed(plan, workers, 1, 7);
    for (int i = 0; i < 12; ++i) EXPECT_EQ(resumed.next().sample_ids, whole.next().sample_ids);
  }
}

TEST(BatchLoader, StopsWithBatchesLeft) {
  const BatchPlan plan = small_plan();
  for (int i = 0; i < 50; ++i) {
    BatchLoader loader(plan, 3, 0, 0);
    if (i % 2 == 0) loader.next();
  }
}

}  // namespace
}  // namespace qlora::data
