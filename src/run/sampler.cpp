#include "run/sampler.h"

#include "qlora/base/error.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace qlora::run {
namespace {

// The ids that may be drawn, likeliest first where a cut needs the order.
std::vector<std::int32_t> candidates(std::span<const float> logits,
                                     const GenerationConfig& config) {
  std::vector<std::int32_t> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0);
  const auto likelier = [&](std::int32_t a, std::int32_t b) {
    const float la = logits[static_cast<std::size_t>(a)];
    const float lb = logits[static_cast<std::size_t>(b)];
    return la != lb ? la > lb : a < b;
  };
  const bool cut = config.top_k > 0 && std::cmp_less(config.top_k, ids.size());
  if (cut) {
    std::partial_sort(ids.begin(), ids.begin() + config.top_k, ids.end(), likelier);
    ids.resize(static_cast<std::size_t>(config.top_k));
  } else if (config.top_p < 1) {
    std::sort(ids.begin(), ids.end(), likelier);
  }
  return ids;
}

// The smallest prefix whose weights reach top_p of all.
std::size_t nucleus(const std::vector<double>& weights, double total, double top_p) {
  double sum = 0;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    sum += weights[i];
    if (sum >= top_p * total) return i + 1;
  }
  return weights.size();
}

}  // namespace

std::int32_t sample_token(std::span<const float> logits, const GenerationConfig& config,
                          double draw) {
  QLORA_ASSERT(!logits.empty() && config.temperature > 0);
  const double highest = *std::max_element(logits.begin(), logits.end());
  const std::vector<std::int32_t> ids = candidates(logits, config);
  std::vector<double> weights;
  weights.reserve(ids.size());
  for (const std::int32_t id : ids) {
    weights.push_back(
        std::exp((logits[static_cast<std::size_t>(id)] - highest) / config.temperature));
  }
  double total = std::accumulate(weights.begin(), weights.end(), 0.0);
  if (config.top_p < 1) {
    weights.resize(nucleus(weights, total, config.top_p));
    total = std::accumulate(weights.begin(), weights.end(), 0.0);
  }
  double left = draw * total;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    left -= weights[i];
    if (left < 0) return ids[i];
  }
  return ids[weights.size() - 1];
}

}  // namespace qlora::run
