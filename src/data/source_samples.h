#pragma once
// A walk over all samples of a data set that tells the source of each.

#include "qlora/base/error.h"
#include "qlora/data/preview.h"

#include <algorithm>
#include <vector>

namespace qlora::data {

// Calls visit(sample, source, is_validation) with each sample but the copies by weight, in
// their order; `source` is a position in `sources`, whose files are counted in the same order.
template <class Visit>
void for_each_sample(std::span<const SourceStats> sources, const SplitSamples& samples,
                     Visit visit) {
  std::vector<std::int64_t> ends;
  for (const SourceStats& source : sources) {
    ends.push_back((ends.empty() ? 0 : ends.back()) + source.files);
  }
  for (const SampleStore* const store : {samples.train, samples.validation}) {
    if (store == nullptr) continue;
    for (std::int64_t i = 0; i < store->size(); ++i) {
      const Sample sample = store->get(i);
      if (sample.id >= kCopyStride) continue;
      const auto source = std::ranges::upper_bound(ends, std::int64_t{sample.file}) - ends.begin();
      visit(sample, static_cast<std::size_t>(source), store == samples.validation);
    }
  }
}

}  // namespace qlora::data
