// The quick finder of codes against the binary search, and that against an exhaustive one.

#include "kernels/nearest_code.h"

#include "kernels/support.h"
#include "qlora/base/random.h"
#include "qlora/kernels/dynamic_maps.h"

#include <bit>
#include <cmath>

namespace qlora::kernels {
namespace {

// Every bound between two codes and its neighbours, every code, random values of all magnitudes,
// and what lies outside [-1, 1].
std::vector<float> hard_values(const Table<256>& map) {
  std::vector<float> values = {0.0f, -0.0f, 1e-45f, -1e-45f, 1.5f, -1.5f, INFINITY, -INFINITY};
  values.push_back(std::nanf(""));
  values.push_back(-std::nanf(""));
  for (int code = 0; code < 256; ++code) {
    const float middle = (map[code] + map[std::min(code + 1, 255)]) * 0.5f;
    for (const float value : {middle, map[code], -middle, -map[code]}) {
      values.insert(values.end(),
                    {value, std::nextafter(value, 2.0f), std::nextafter(value, -2.0f)});
    }
  }
  const RandomStream stream(1, "codes");
  for (int i = 0; i < 200000; ++i) {
    const float magnitude = std::exp2(-30 * stream.uniform(2 * i));
    values.push_back(stream.uniform(2 * i + 1) < 0.5f ? magnitude : -magnitude);
  }
  return values;
}

template <int kZero>
void expect_equal(const CodeFinder<kZero>& finder, const Table<256>& map) {
  for (const float x : hard_values(map)) {
    ASSERT_EQ(finder.find(x), nearest_code(x, map.values)) << x;
  }
}

TEST(NearestCode, FinderEqualsTheBinarySearch) {
  expect_equal(kSignedFinder, kSignedMap);
  expect_equal(kUnsignedFinder, kUnsignedMap);
}

// The sign of a moment survives its code: bitsandbytes' repair after the search.
template <int kZero>
void expect_repaired(const CodeFinder<kZero>& finder, const Table<256>& map) {
  for (const float moment : hard_values(map)) {
    if (!(std::fabs(moment) <= 1) || (kZero == 0 && std::signbit(moment))) continue;
    int expected = nearest_code(moment, map.values);
    if (std::signbit(map[expected]) != std::signbit(moment)) expected += moment > 0 ? 1 : -1;
    ASSERT_EQ(finder.moment_code(moment, std::fabs(moment)), expected) << moment;
  }
}

TEST(NearestCode, MomentsKeepTheirSign) {
  expect_repaired(kSignedFinder, kSignedMap);
  expect_repaired(kUnsignedFinder, kUnsignedMap);
}

TEST(NearestCode, SearchTakesTheNearestAndOfTwoTheEven) {
  for (const Table<256>& map : {kSignedMap, kUnsignedMap}) {
    for (int code = 0; code < 255; ++code) {
      const float middle = (map[code] + map[code + 1]) * 0.5f;
      EXPECT_EQ(nearest_code(map[code], map.values), code);
      EXPECT_EQ(nearest_code(std::nextafter(middle, -2.0f), map.values), code);
      EXPECT_EQ(nearest_code(middle, map.values), code + code % 2);
      EXPECT_EQ(nearest_code(std::nextafter(middle, 2.0f), map.values), code + 1);
    }
    EXPECT_EQ(nearest_code(-1.0f, map.values), 0);
    EXPECT_EQ(nearest_code(1.0f, map.values), 255);
  }
}

}  // namespace
}  // namespace qlora::kernels
