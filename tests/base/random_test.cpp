#include "qlora/base/random.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

namespace qlora {
namespace {

void expect_words(Philox4 got, std::vector<std::uint32_t> expected) {
  EXPECT_EQ(std::vector<std::uint32_t>(got.words, got.words + 4), expected);
}

// Random123's kat_vectors, the lines "philox4x32 10".
TEST(PhiloxTest, KnownAnswers) {
  expect_words(philox({{0, 0, 0, 0}}, {0, 0}), {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  constexpr std::uint32_t kOnes = 0xffffffff;
  expect_words(philox({{kOnes, kOnes, kOnes, kOnes}}, {kOnes, kOnes}),
               {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  expect_words(philox({{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}}, {0xa4093822, 0x299f31d0}),
               {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST(PhiloxTest, UnitFloatsStayBelowOne) {
  EXPECT_EQ(to_unit_float(0), 0.0f);
  EXPECT_EQ(to_unit_float(0xffffffff), 1.0f - 0x1p-24f);
}

// Published FNV-1a test values.
TEST(StableHashTest, IsFnv1a) {
  EXPECT_EQ(stable_hash(""), 0xcbf29ce484222325ull);
  EXPECT_EQ(stable_hash("a"), 0xaf63dc4c8601ec8cull);
  EXPECT_EQ(stable_hash("foobar"), 0x85944171f73967e8ull);
}

TEST(RandomStreamTest, ADrawDependsOnSeedPurposeAndIndexAlone) {
  const RandomStream stream(7, "order");
  const auto first = stream.bits(3);
  static_cast<void>(stream.bits(4));
  EXPECT_EQ(stream.bits(3), first);
  EXPECT_EQ(RandomStream(7, "order").bits(3), first);
  EXPECT_NE(stream.bits(4), first);
  EXPECT_NE(RandomStream(8, "order").bits(3), first);
  EXPECT_NE(RandomStream(7, "init").bits(3), first);
  EXPECT_NE(stream.bits(3 + (std::uint64_t{1} << 32)), first)
      << "the high half of the index counts";
}

TEST(RandomStreamTest, MomentsAreThoseOfTheDistributions) {
  constexpr int kDraws = 100000;
  const RandomStream stream(1, "moments");
  double uniform_sum = 0;
  double sum = 0;
  double squares = 0;
  for (int i = 0; i < kDraws; ++i) {
    const float uniform = stream.uniform(static_cast<std::uint64_t>(i));
    ASSERT_TRUE(uniform >= 0 && uniform < 1);
    uniform_sum += uniform;
    const double normal = stream.normal(static_cast<std::uint64_t>(i));
    sum += normal;
    squares += normal * normal;
  }
  // Five standard errors of each estimate.
  EXPECT_NEAR(uniform_sum / kDraws, 0.5, 5 * std::sqrt(1.0 / 12 / kDraws));
  EXPECT_NEAR(sum / kDraws, 0, 5 * std::sqrt(1.0 / kDraws));
  EXPECT_NEAR(squares / kDraws, 1, 5 * std::sqrt(2.0 / kDraws));
}

TEST(PermutationTest, HoldsEachNumberOnce) {
  for (const std::int64_t n : {0, 1, 2, 17, 1000}) {
    auto order = permutation(n, RandomStream(42, "order"));
    std::ranges::sort(order);
    std::vector<std::int64_t> counting(static_cast<std::size_t>(n));
    std::iota(counting.begin(), counting.end(), std::int64_t{0});
    EXPECT_EQ(order, counting);
  }
}

TEST(PermutationTest, IsAPureFunctionOfTheStream) {
  EXPECT_EQ(permutation(50, RandomStream(1, "a")), permutation(50, RandomStream(1, "a")));
  EXPECT_NE(permutation(50, RandomStream(1, "a")), permutation(50, RandomStream(2, "a")));
}

TEST(PermutationTest, EveryOrderIsEquallyLikely) {
  constexpr int kStreams = 6000;
  std::map<std::vector<std::int64_t>, int> counts;
  for (int seed = 0; seed < kStreams; ++seed) {
    ++counts[permutation(3, RandomStream(static_cast<std::uint64_t>(seed), "order"))];
  }
  EXPECT_EQ(counts.size(), 6u);
  // Five standard deviations of a binomial count with p = 1/6.
  for (const auto& [order, count] : counts)
    EXPECT_NEAR(count, 1000, 5 * std::sqrt(6000 * 5.0 / 36));
}

}  // namespace
}  // namespace qlora
