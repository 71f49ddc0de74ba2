#pragma once
// Which samples make up which batch. Any batch of any epoch can be asked for at any time, so a
// resumed run needs its position alone.

#include "qlora/data/batch.h"
#include "qlora/data/sample_store.h"
#include "qlora/text/tokenizer.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace qlora::data {

struct BatchOptions {
  std::int64_t batch_size = 1;  // rows of one batch of one rank
  std::int64_t pad_id = 0;
  std::uint64_t seed = 42;
  // False: the order of the file in every epoch (evaluation). True: another order in each, but the
  // longest row first, so that a batch too large for the memory fails at once.
  bool shuffle = true;
  // Over 0: rows of at most so many tokens, filled by best fit over all samples; 0: a sample each.
  std::int64_t pack_length = 0;
  // Sorts by length within chunks of at most 50 updates (transformers' group_by_length), which
  // makes less padding. Not for packed rows.
  bool group_by_length = false;
  std::int64_t gradient_accumulation_steps = 1;  // for group_by_length alone
  // Batches go round-robin to the ranks.
  std::int64_t rank = 0;
  std::int64_t world = 1;
};

// The samples of an epoch, row by row.
struct EpochOrder {
  std::vector<std::int64_t> samples;  // positions in the plan's samples()
  // [rows + 1]: where each row starts in `samples`; empty where a row is one sample.
  std::vector<std::int64_t> starts;
};

// What the batches of an epoch hold.
struct EpochSize {
  std::int64_t rows = 0;
  std::int64_t tokens = 0;
  std::int64_t cells = 0;  // tokens and pads
};

// What no batch of any epoch exceeds.
struct LargestBatch {
  std::int64_t rows = 0;
  std::int64_t length = 0;   // tokens of a row
  std::int64_t samples = 0;  // of all its rows
};

class BatchPlan {
 public:
  // `samples` must not be empty, nor longer than pack_length; options in their ranges.
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
  // Over all ranks.
  EpochOrder order(std::int64_t epoch) const;
  EpochSize size(std::int64_t epoch) const;
  // Rows, samples and the share of padding of the first epoch, one line for a person.
  std::string describe() const;

  const SampleStore& samples() const { return samples_; }
  std::int64_t sample_count() const { return samples_.size(); }
  bool packs() const { return options_.pack_length > 0; }
  // Tokens of the longest row.
  std::int64_t longest() const;
  LargestBatch largest() const;

 private:
  using Order = std::shared_ptr<const EpochOrder>;
  struct Cache;

  Order cached_order(std::int64_t epoch) const;
  EpochOrder pack(const std::vector<std::int64_t>& order, std::int64_t epoch) const;
  std::int64_t row_length(const EpochOrder& order, std::int64_t row) const;

  SampleStore samples_;
  BatchOptions options_;
  std::int64_t rows_ = 0;  // of every epoch
  std::unique_ptr<Cache> cache_;
};

// The token that pads rows: the tokenizer's own, else EOS, else 0 (it is never learned).
std::int64_t pad_id(const text::Tokenizer& tokenizer);

}  // namespace qlora::data
