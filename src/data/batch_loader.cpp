#include "qlora/data/batch_loader.h"

#include "qlora/base/error.h"

#include <condition_variable>
#include <exception>
#include <map>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace qlora::data {
namespace {

// A worker is at most this many batches ahead, its share of the queue.
constexpr std::int64_t kBatchesPerWorker = 2;

Batch batch_at(const BatchPlan& plan, std::int64_t position) {
  return plan.get(position / plan.batches_per_epoch(), position % plan.batches_per_epoch());
}

}  // namespace

class BatchLoader::Prefetcher {
 public:
  Prefetcher(const BatchPlan& plan, std::int64_t workers, std::int64_t position)
      : plan_(plan), capacity_(workers * kBatchesPerWorker), wanted_(position), claimed_(position) {
    for (std::int64_t i = 0; i < workers; ++i) threads_.emplace_back([this] { work(); });
  }

  ~Prefetcher() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  Batch take() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return ready_.contains(wanted_); });
    Result result = std::move(ready_.extract(wanted_).mapped());
    ++wanted_;
    lock.unlock();
    changed_.notify_all();
    if (result.error) std::rethrow_exception(result.error);
    return std::move(result.batch);
  }

 private:
  struct Result {
    Batch batch;
    std::exception_ptr error;
  };

  void work() {
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait(lock, [this] { return stopping_ || claimed_ < wanted_ + capacity_; });
      if (stopping_) return;
      const std::int64_t position = claimed_++;
      lock.unlock();
      Result result;
      try {
        result.batch = batch_at(plan_, position);
      } catch (...) {
        result.error = std::current_exception();
      }
      lock.lock();
      ready_.emplace(position, std::move(result));
      changed_.notify_all();
    }
  }

  const BatchPlan& plan_;
  const std::int64_t capacity_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::int64_t, Result> ready_;
  std::int64_t wanted_;   // the next position that take() hands out
  std::int64_t claimed_;  // the next position that a worker builds
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

BatchLoader::BatchLoader(const BatchPlan& plan, std::int64_t workers, std::int64_t epoch,
                         std::int64_t index)
    : plan_(plan), position_(epoch * plan.batches_per_epoch() + index) {
  QLORA_ASSERT(workers >= 0 && epoch >= 0 && index >= 0);
  if (workers > 0) prefetcher_ = std::make_unique<Prefetcher>(plan, workers, position_);
}

BatchLoader::~BatchLoader() = default;

Batch BatchLoader::next() {
  return prefetcher_ ? prefetcher_->take() : batch_at(plan_, position_++);
}

}  // namespace qlora::data
