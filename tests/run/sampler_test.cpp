#include "run/sampler.h"

#include "qlora/base/random.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

namespace qlora::run {
namespace {

// Probabilities 0.05, 0.5, 0.15, 0.3.
const std::vector<float> kLogits = {std::log(0.05F), std::log(0.5F), std::log(0.15F),
                                    std::log(0.3F)};

std::set<std::int32_t> reachable(const GenerationConfig& config) {
  std::set<std::int32_t> ids;
  for (int i = 0; i < 1000; ++i) ids.insert(sample_token(kLogits, config, i / 1000.0));
  return ids;
}

TEST(Sampler, FollowsTheSoftmax) {
  const GenerationConfig config{.temperature = 1};
  const RandomStream stream(1, "test");
  constexpr int kDraws = 20000;
  std::vector<int> counts(kLogits.size());
  for (int i = 0; i < kDraws; ++i) {
    const double draw = stream.uniform(static_cast<std::uint64_t>(i));
    ++counts[static_cast<std::size_t>(sample_token(kLogits, config, draw))];
  }
  for (std::size_t id = 0; id < kLogits.size(); ++id) {
    const double p = std::exp(kLogits[id]);
    // Four standard deviations of a binomial count.
    EXPECT_NEAR(counts[id], kDraws * p, 4 * std::sqrt(kDraws * p * (1 - p))) << id;
  }
}

TEST(Sampler, TemperatureSharpensAndFlattens) {
  // At temperature 1/2 probabilities are squared: 0.25 / 0.365 for the likeliest, first of all ids
  // but one; at 2 their roots are taken.
  const auto share_of_likeliest = [](double temperature) {
    int count = 0;
    for (int i = 0; i < 10000; ++i) {
      count += sample_token(kLogits, {.temperature = temperature}, i / 10000.0) == 1 ? 1 : 0;
    }
    return count / 10000.0;
  };
  EXPECT_NEAR(share_of_likeliest(0.5), 0.25 / (0.0025 + 0.25 + 0.0225 + 0.09), 2e-4);
  const double roots = std::sqrt(0.05) + std::sqrt(0.5) + std::sqrt(0.15) + std::sqrt(0.3);
  EXPECT_NEAR(share_of_likeliest(2), std::sqrt(0.5) / roots, 2e-4);
}

TEST(Sampler, TopKKeepsTheLikeliest) {
  EXPECT_EQ(reachable({.temperature = 1, .top_k = 1}), (std::set<std::int32_t>{1}));
  EXPECT_EQ(reachable({.temperature = 1, .top_k = 2}), (std::set<std::int32_t>{1, 3}));
  EXPECT_EQ(reachable({.temperature = 1, .top_k = 9}), (std::set<std::int32_t>{0, 1, 2, 3}));
}

TEST(Sampler, TopPKeepsTheSmallestSetThatReachesIt) {
  EXPECT_EQ(reachable({.temperature = 1, .top_p = 0.49}), (std::set<std::int32_t>{1}));
  EXPECT_EQ(reachable({.temperature = 1, .top_p = 0.51}), (std::set<std::int32_t>{1, 3}));
  EXPECT_EQ(reachable({.temperature = 1, .top_p = 0.79}), (std::set<std::int32_t>{1, 3}));
  EXPECT_EQ(reachable({.temperature = 1, .top_p = 0.81}), (std::set<std::int32_t>{1, 2, 3}));
}

TEST(Sampler, TopPCountsWhatTopKLeft) {
  // Of 0.5 and 0.3 the first has 0.625: enough for 0.6 only after the cut to two.
  EXPECT_EQ(reachable({.temperature = 1, .top_k = 2, .top_p = 0.6}), (std::set<std::int32_t>{1}));
  EXPECT_EQ(reachable({.temperature = 1, .top_p = 0.6}), (std::set<std::int32_t>{1, 3}));
}

TEST(Sampler, EqualLogitsGoByTheirId) {
  const std::vector<float> flat(5, 2.0F);
  EXPECT_EQ(sample_token(flat, {.temperature = 1, .top_k = 1}, 0.999), 0);
  EXPECT_EQ(sample_token(flat, {.temperature = 1}, 0.999), 4);
}

}  // namespace
}  // namespace qlora::run
