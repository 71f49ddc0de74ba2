#pragma once
// Which samples make up which batch. Any batch of any epoch can be asked for at any time, so a
// resumed run needs its position alone.

#include "qlora/data/batch.h"
#include "qlora/data/sample_store.h"
#include "qlora/text/tokenizer.h"

#include <cstdint>
#include <memory>
#include <vector>

namespace qlora::data {

struct BatchOptions {
  std::int64_t batch_size = 1;  // samples of one batch of one rank
  std::int64_t pad_id = 0;
  std::uint64_t seed = 42;
  // False: the order of the file in every epoch (evaluation).
  bool shuffle = true;
  // Sorts by length within chunks of at most 50 updates, the longest sample of all first
  // (transformers' group_by_length): less padding, and a batch too large fails at once.
  bool group_by_length = false;
  std::int64_t gradient_accumulation_steps = 1;  // for group_by_length alone
  // Batches go round-robin to the ranks.
  std::int64_t rank = 0;
  std::int64_t world = 1;
};

class BatchPlan {
 public:
  // `samples` must not be empty; options in their ranges.
  BatchPlan(SampleStore samples, const BatchOptions& options);
  ~BatchPlan();
  BatchPlan(BatchPlan&&) noexcept;
  BatchPlan& operator=(BatchPlan&&) noexcept;

  // The same for every rank. The last batch may be short. Where the batches do not fill the last
  // round of ranks, the others get one sample without labels, which adds nothing to any sum.
  std::int64_t batches_per_epoch() const;
  // A pure function of (samples, options, epoch, index), for several threads at once.
  // 0 <= index < batches_per_epoch().
  Batch get(std::int64_t epoch, std::int64_t index) const;
  // Positions in samples(), in the order of the epoch, over all ranks.
  std::vector<std::int64_t> order(std::int64_t epoch) const;

  const SampleStore& samples() const { return samples_; }
  std::int64_t sample_count() const { return samples_.size(); }
  // Tokens of the longest sample.
  std::int64_t longest() const;

 private:
  using Order = std::shared_ptr<const std::vector<std::int64_t>>;
  struct Cache;

  Order cached_order(std::int64_t epoch) const;
  void group(std::vector<std::int64_t>& order) const;

  SampleStore samples_;
  BatchOptions options_;
  std::unique_ptr<Cache> cache_;
};

// The token that pads rows: the tokenizer's own, else EOS, else 0 (it is never learned).
std::int64_t pad_id(const text::Tokenizer& tokenizer);

}  // namespace qlora::data
