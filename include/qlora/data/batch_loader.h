#pragma once
// The batches of a plan one after another, prepared ahead by worker threads.

#include "qlora/data/batch_plan.h"

#include <cstdint>
#include <memory>

namespace qlora::data {

// `workers` threads (0: none, next() does the work) build batches ahead. They change when a batch
// is built, never which one comes next.
class BatchLoader {
 public:
  // Starts at batch `index` of `epoch`; `plan` must outlive this object.
  BatchLoader(const BatchPlan& plan, std::int64_t workers, std::int64_t epoch, std::int64_t index);
  ~BatchLoader();
  BatchLoader(const BatchLoader&) = delete;
  BatchLoader& operator=(const BatchLoader&) = delete;

  // The next batch; the first of the next epoch follows the last. Not for several threads at once.
  Batch next();

 private:
  class Prefetcher;

  const BatchPlan& plan_;
  std::int64_t position_;  // batches since epoch 0
  std::unique_ptr<Prefetcher> prefetcher_;
};

}  // namespace qlora::data
