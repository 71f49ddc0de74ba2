#include "qlora/data/batch_plan.h"

#include "data/length_groups.h"
#include "data/packing.h"
#include "qlora/base/error.h"
#include "qlora/base/narrow.h"
#include "qlora/base/random.h"

#include <algorithm>
#include <array>
#include <mutex>
#include <numeric>
#include <span>
#include <utility>

namespace qlora::data {
namespace {

std::int64_t row_count(const EpochOrder& order) {
  return order.starts.empty() ? std::ssize(order.samples) : std::ssize(order.starts) - 1;
}

// The samples of one row.
std::span<const std::int64_t> row_samples(const EpochOrder& order, std::int64_t row) {
  const std::span all(order.samples);
  const auto at = static_cast<std::size_t>(row);
  if (order.starts.empty()) return all.subspan(at, 1);
  const auto begin = static_cast<std::size_t>(order.starts[at]);
  return all.subspan(begin, static_cast<std::size_t>(order.starts[at + 1]) - begin);
}

template <class Length>
void put_longest_first(std::vector<std::int64_t>& order, const Length& length) {
  std::iter_swap(order.begin(), std::ranges::max_element(order, {}, length));
}

}  // namespace

// The orders of the epochs asked for last. Two, as the workers of a loader that reach the end of
// an epoch ask for batches of the next one too.
struct BatchPlan::Cache {
  struct Slot {
    std::int64_t epoch = -1;
    Order order;
  };
  std::mutex mutex;
  std::array<Slot, 2> slots;  // by the epoch's last bit
};

BatchPlan::BatchPlan(SampleStore samples, const BatchOptions& options)
    : samples_(std::move(samples)), options_(options), cache_(std::make_unique<Cache>()) {
  QLORA_ASSERT(!samples_.empty());
  QLORA_ASSERT(options_.batch_size > 0 && options_.gradient_accumulation_steps > 0);
  QLORA_ASSERT(options_.rank >= 0 && options_.rank < options_.world);
  QLORA_ASSERT(!packs() || !options_.group_by_length);
  rows_ = packs() ? row_count(*cached_order(0)) : sample_count();
}

BatchPlan::~BatchPlan() = default;
BatchPlan::BatchPlan(BatchPlan&&) noexcept = default;
BatchPlan& BatchPlan::operator=(BatchPlan&&) noexcept = default;

std::int64_t BatchPlan::batches_per_epoch() const {
  return div_up(div_up(rows_, options_.batch_size), options_.world);
}

std::int64_t BatchPlan::row_length(const EpochOrder& order, std::int64_t row) const {
  std::int64_t length = 0;
  for (const std::int64_t i : row_samples(order, row)) length += samples_.length(i);
  return length;
}

std::int64_t BatchPlan::longest() const {
  const Order order = cached_order(0);
  std::int64_t longest = 0;
  for (std::int64_t row = 0; row < rows_; ++row) {
    longest = std::max(longest, row_length(*order, row));
  }
  return longest;
}

EpochSize BatchPlan::size(std::int64_t epoch) const {
  const Order order = cached_order(epoch);
  EpochSize size{.rows = rows_};
  for (std::int64_t begin = 0; begin < rows_; begin += options_.batch_size) {
    const std::int64_t end = std::min(begin + options_.batch_size, rows_);
    std::int64_t longest = 0;
    for (std::int64_t row = begin; row < end; ++row) {
      const std::int64_t length = row_length(*order, row);
      size.tokens += length;
      longest = std::max(longest, length);
    }
    size.cells += (end - begin) * longest;
  }
  return size;
}

LargestBatch BatchPlan::largest() const {
  // Packing makes rows alike in every epoch, but shuffles them.
  const Order order = cached_order(0);
  std::vector<std::int64_t> samples;
  for (std::int64_t row = 0; row < rows_; ++row) {
    samples.push_back(std::ssize(row_samples(*order, row)));
  }
  std::ranges::sort(samples, std::greater());
  const std::int64_t rows = std::min(options_.batch_size, rows_);
  return {.rows = rows,
          .length = longest(),
          .samples = std::accumulate(samples.begin(), samples.begin() + rows, std::int64_t{0})};
}

std::string BatchPlan::describe() const {
  const EpochSize epoch = size(0);
  const double padding =
      100.0 * static_cast<double>(epoch.cells - epoch.tokens) / static_cast<double>(epoch.cells);
  const std::string packed =
      packs() ? fmt::format(" packed into {} rows of at most {} tokens", epoch.rows, longest())
              : fmt::format(" of at most {} tokens", longest());
  return fmt::format("an epoch: {} samples{}, {} batches of {}; padding is {:.2f} % of them",
                     sample_count(), packed, batches_per_epoch(), options_.batch_size, padding);
}

EpochOrder BatchPlan::order(std::int64_t epoch) const {
  EpochOrder order;
  if (options_.shuffle) {
    const RandomStream stream(options_.seed, fmt::format("order of epoch {}", epoch));
    order.samples = permutation(sample_count(), stream);
  } else {
    order.samples.resize(static_cast<std::size_t>(sample_count()));
    std::iota(order.samples.begin(), order.samples.end(), std::int64_t{0});
  }
  if (packs()) return pack(order.samples, epoch);
  const auto length = [this](std::int64_t i) { return samples_.length(i); };
  const std::int64_t update =
      options_.batch_size * options_.gradient_accumulation_steps * options_.world;
  if (options_.shuffle && options_.group_by_length) {
    group_by_length(order.samples, update, length);
  } else if (options_.shuffle) {
    put_longest_first(order.samples, length);
  }
  return order;
}

EpochOrder BatchPlan::pack(const std::vector<std::int64_t>& samples, std::int64_t epoch) const {
  std::vector<std::int32_t> lengths;
  lengths.reserve(samples.size());
  for (const std::int64_t i : samples) {
    lengths.push_back(narrow<std::int32_t>(samples_.length(i)));
  }
  PackedRows packed = pack_best_fit(lengths, options_.pack_length);
  EpochOrder by_length{.samples = std::move(packed.items), .starts = std::move(packed.starts)};
  for (std::int64_t& item : by_length.samples) item = samples[static_cast<std::size_t>(item)];
  if (!options_.shuffle) return by_length;
  // Best fit has put the rows of long samples first.
  std::vector<std::int64_t> rows =
      permutation(row_count(by_length),
                  RandomStream(options_.seed, fmt::format("order of rows of epoch {}", epoch)));
  put_longest_first(rows, [&](std::int64_t row) { return row_length(by_length, row); });
  EpochOrder order{.samples = {}, .starts = {0}};
  order.samples.reserve(samples.size());
  for (const std::int64_t row : rows) {
    const auto members = row_samples(by_length, row);
    order.samples.insert(order.samples.end(), members.begin(), members.end());
    order.starts.push_back(std::ssize(order.samples));
  }
  return order;
}

BatchPlan::Order BatchPlan::cached_order(std::int64_t epoch) const {
  const std::lock_guard lock(cache_->mutex);
  Cache::Slot& slot = cache_->slots[static_cast<std::size_t>(epoch % 2)];
  if (slot.epoch != epoch) {
    slot.order.reset();  // of many samples it is large
    slot.order = std::make_shared<const EpochOrder>(order(epoch));
    slot.epoch = epoch;
  }
  return slot.order;
}

Batch BatchPlan::get(std::int64_t epoch, std::int64_t index) const {
  QLORA_ASSERT(epoch >= 0 && index >= 0 && index < batches_per_epoch());
  const Order order = cached_order(epoch);
  const std::int64_t begin = (index * options_.world + options_.rank) * options_.batch_size;
  std::vector<std::vector<Sample>> rows;
  if (begin >= rows_) {
    rows = {{samples_.get(order->samples[0])}};
    std::ranges::fill(rows[0][0].labels, static_cast<std::int32_t>(kNotLearned));
  }
  for (std::int64_t row = begin; row < std::min(begin + options_.batch_size, rows_); ++row) {
    std::vector<Sample>& samples = rows.emplace_back();
    for (const std::int64_t i : row_samples(*order, row)) samples.push_back(samples_.get(i));
  }
  return make_batch(rows, options_.pad_id);
}

std::int64_t pad_id(const text::Tokenizer& tokenizer) {
  return tokenizer.pad().value_or(tokenizer.eos().value_or(0));
}

}  // namespace qlora::data
