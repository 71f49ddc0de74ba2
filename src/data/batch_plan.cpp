#include "qlora/data/batch_plan.h"

#include "qlora/base/error.h"
#include "qlora/base/narrow.h"
#include "qlora/base/random.h"

#include <algorithm>
#include <mutex>
#include <numeric>
#include <span>
#include <utility>

namespace qlora::data {
namespace {

// transformers' LengthGroupedSampler: chunks of at most 50 updates, and at least 4 chunks.
constexpr std::int64_t kMaxUpdatesPerChunk = 50;
constexpr std::int64_t kMinChunks = 4;

}  // namespace

// The order of the epoch asked for last.
struct BatchPlan::Cache {
  std::mutex mutex;
  std::int64_t epoch = -1;
  Order order;
};

BatchPlan::BatchPlan(SampleStore samples, const BatchOptions& options)
    : samples_(std::move(samples)), options_(options), cache_(std::make_unique<Cache>()) {
  QLORA_ASSERT(!samples_.empty());
  QLORA_ASSERT(options_.batch_size > 0 && options_.gradient_accumulation_steps > 0);
  QLORA_ASSERT(options_.rank >= 0 && options_.rank < options_.world);
}

BatchPlan::~BatchPlan() = default;
BatchPlan::BatchPlan(BatchPlan&&) noexcept = default;
BatchPlan& BatchPlan::operator=(BatchPlan&&) noexcept = default;

std::int64_t BatchPlan::batches_per_epoch() const {
  return div_up(div_up(sample_count(), options_.batch_size), options_.world);
}

std::int64_t BatchPlan::longest() const {
  std::int64_t longest = 0;
  for (std::int64_t i = 0; i < sample_count(); ++i) {
    longest = std::max(longest, samples_.length(i));
  }
  return longest;
}

std::vector<std::int64_t> BatchPlan::order(std::int64_t epoch) const {
  if (!options_.shuffle) {
    std::vector<std::int64_t> order(static_cast<std::size_t>(sample_count()));
    std::iota(order.begin(), order.end(), std::int64_t{0});
    return order;
  }
  const RandomStream stream(options_.seed, fmt::format("order of epoch {}", epoch));
  std::vector<std::int64_t> order = permutation(sample_count(), stream);
  if (options_.group_by_length) group(order);
  return order;
}

void BatchPlan::group(std::vector<std::int64_t>& order) const {
  const std::int64_t update =
      options_.batch_size * options_.gradient_accumulation_steps * options_.world;
  const std::int64_t updates =
      std::clamp<std::int64_t>(sample_count() / (update * kMinChunks), 1, kMaxUpdatesPerChunk);
  const auto length = [this](std::int64_t i) { return samples_.length(i); };
  auto longest = order.begin();
  for (std::int64_t begin = 0; begin < sample_count(); begin += updates * update) {
    const auto chunk = order.begin() + begin;
    const auto end = order.begin() + std::min(begin + updates * update, sample_count());
    std::stable_sort(chunk, end, [&](auto a, auto b) { return length(a) > length(b); });
    if (length(*chunk) > length(*longest)) longest = chunk;
  }
  std::iter_swap(order.begin(), longest);
}

BatchPlan::Order BatchPlan::cached_order(std::int64_t epoch) const {
  const std::lock_guard lock(cache_->mutex);
  if (cache_->epoch != epoch) {
    cache_->order.reset();  // of many samples it is large
    cache_->order = std::make_shared<const std::vector<std::int64_t>>(order(epoch));
    cache_->epoch = epoch;
  }
  return cache_->order;
}

Batch BatchPlan::get(std::int64_t epoch, std::int64_t index) const {
  QLORA_ASSERT(epoch >= 0 && index >= 0 && index < batches_per_epoch());
  const Order order = cached_order(epoch);
  const auto at = [&](std::int64_t i) {
    return samples_.get((*order)[static_cast<std::size_t>(i)]);
  };
  const std::int64_t begin = (index * options_.world + options_.rank) * options_.batch_size;
  if (begin >= sample_count()) {
    Sample silent = at(0);
    std::ranges::fill(silent.labels, static_cast<std::int32_t>(kNotLearned));
    return make_batch(std::span(&silent, 1), options_.pad_id);
  }
  std::vector<Sample> rows;
  const std::int64_t end = std::min(begin + options_.batch_size, sample_count());
  for (std::int64_t i = begin; i < end; ++i) rows.push_back(at(i));
  return make_batch(rows, options_.pad_id);
}

std::int64_t pad_id(const text::Tokenizer& tokenizer) {
  return tokenizer.pad().value_or(tokenizer.eos().value_or(0));
}

}  // namespace qlora::data
