#include "qlora/base/narrow.h"

#include <gtest/gtest.h>

#include <limits>

namespace qlora {
namespace {

constexpr std::int64_t kMax = std::numeric_limits<std::int64_t>::max();

TEST(NarrowTest, KeepsWhatFitsAndRefusesTheRest) {
  EXPECT_EQ(narrow<std::int8_t>(std::int64_t{-128}), -128);
  EXPECT_EQ(narrow<std::uint32_t>(std::int64_t{4294967295}), 4294967295u);
  EXPECT_THROW(narrow<std::int8_t>(std::int64_t{128}), Error);
  EXPECT_THROW(narrow<std::uint32_t>(std::int64_t{-1}), Error);
  EXPECT_THROW(narrow<std::int64_t>(std::numeric_limits<std::uint64_t>::max()), Error);
}

TEST(NarrowTest, DividesExactlyOrNotAtAll) {
  EXPECT_EQ(div_exact<std::int64_t>(64, 16), 4);
  EXPECT_THROW(div_exact<std::int64_t>(65, 16), Error);
  EXPECT_THROW(div_exact<std::int64_t>(65, 0), Error);
  EXPECT_EQ(div_up<std::int64_t>(65, 64), 2);
  EXPECT_EQ(div_up<std::int64_t>(64, 64), 1);
  EXPECT_EQ(div_up<std::int64_t>(0, 64), 0);
}

TEST(NarrowTest, RoundsUpToAMultiple) {
  EXPECT_EQ(round_up<std::int64_t>(65, 64), 128);
  EXPECT_EQ(round_up<std::int64_t>(64, 64), 64);
  EXPECT_EQ(round_up<std::int64_t>(0, 64), 0);
  EXPECT_EQ(round_up<std::int64_t>(7, 12), 12);
}

TEST(NarrowTest, RefusesAProductThatOverflows) {
  EXPECT_EQ(checked_mul(1 << 20, 1 << 20), std::int64_t{1} << 40);
  EXPECT_EQ(checked_mul(kMax, 1), kMax);
  EXPECT_THROW(checked_mul(kMax, 2), Error);
  EXPECT_THROW(checked_mul(std::int64_t{1} << 32, std::int64_t{1} << 32), Error);
}

TEST(AssertDeathTest, ABrokenPromiseStopsTheProgram) {
  EXPECT_DEATH(QLORA_ASSERT(1 + 1 == 3), "narrow_test.cpp:.*internal error: 1 \\+ 1 == 3");
  QLORA_ASSERT(1 + 1 == 2);
}

}  // namespace
}  // namespace qlora
