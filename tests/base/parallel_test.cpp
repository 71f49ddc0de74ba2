#include "qlora/base/parallel.h"

#include "qlora/base/error.h"

#include <gtest/gtest.h>

#include <atomic>
#include <mutex>
#include <vector>

namespace qlora {
namespace {

TEST(ParallelForTest, CoversEachIndexOnceInRangesNoShorterThanTheGrain) {
  for (const std::int64_t n : {0, 1, 7, 64, 1001}) {
    for (const std::int64_t grain : {1, 3, 64, 5000}) {
      std::vector<std::atomic<int>> visits(static_cast<std::size_t>(n));
      std::mutex mutex;
      parallel_for(n, grain, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) ++visits[static_cast<std::size_t>(i)];
        const std::lock_guard lock(mutex);
        EXPECT_TRUE(end == n || end - begin >= grain) << begin << ".." << end << " of " << n;
      });
      for (const auto& count : visits) ASSERT_EQ(count, 1) << n << " by " << grain;
    }
  }
}

TEST(ParallelForTest, RethrowsAfterAllRangesEnded) {
  std::atomic<int> running = 0;
  EXPECT_THROW(parallel_for(100, 1,
                            [&](std::int64_t begin, std::int64_t) {
                              ++running;
                              if (begin == 0) {
                                --running;
                                throw Error("broken");
                              }
                              --running;
                            }),
               Error);
  EXPECT_EQ(running, 0);
}

}  // namespace
}  // namespace qlora
