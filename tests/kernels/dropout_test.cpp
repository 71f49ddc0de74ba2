#include "qlora/kernels/dropout.h"

#include "kernels/support.h"
#include "qlora/base/error.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace qlora::kernels {
namespace {

using test::Guarded;

constexpr DropoutKey kKey{.seed = 0x123456789abcdefull, .module = 0xfedcba987654321ull};

// Samples and positions of a ragged batch, of several samples and epochs.
struct BatchRows {
  std::vector<std::int64_t> samples, positions;
  explicit BatchRows(std::int64_t rows) : samples(rows), positions(rows) {
    for (std::int64_t r = 0; r < rows; ++r) {
      samples[r] = sample_name(5 * (r / 3 + 1), r / 3 + 1);
      positions[r] = r % 3 + (r == 1 ? 0xfffffff0ll : 0);
    }
  }
};

float reference(float x, const DropoutKey& key, std::int64_t sample, std::int64_t position,
                std::int64_t feature, float p) {
  const auto word = [](std::int64_t value) { return static_cast<std::uint32_t>(value); };
  const auto seed = static_cast<std::int64_t>(key.seed);
  const auto module = static_cast<std::int64_t>(key.module);
  const Philox4 mixed =
      philox({{word(seed), word(seed >> 32), word(module), word(module >> 32)}}, {0, 0});
  const Philox4 drawn =
      philox({{word(feature / 8), word(position), word(sample), word(sample >> 32)}},
             {mixed.words[0], mixed.words[1]});
  const auto h = feature % 8;
  const std::uint32_t bits = drawn.words[h / 2] >> (16 * (h % 2)) & 0xffff;
  const double threshold = std::min(std::round(p * 65536.0), 65535.0);
  return bits >= threshold ? x * static_cast<float>(65536 / (65536 - threshold)) : 0;
}

std::vector<std::byte> dropped(const std::vector<std::byte>& x, DType dtype, const BatchRows& rows,
                               std::int64_t cols, const DropoutKey& key, float p) {
  Guarded out(static_cast<std::int64_t>(x.size()), static_cast<std::int64_t>(size_of(dtype)));
  cpu::dropout(x.data(), dtype, static_cast<std::int64_t>(rows.samples.size()), cols,
               rows.samples.data(), rows.positions.data(), key, p, out.data(), nullptr);
  return test::copy_of(out.payload());
}

TEST(Dropout, EqualsTheReferenceOnBothPaths) {
  const BatchRows rows(7);
  for (const std::int64_t cols : {1, 3, 8, 31, 64, 67, 1023, 1024, 2085}) {
    for (const DType dtype : test::kFloatTypes) {
      for (const float p : {0.0f, 0.05f, 0.5f, 0.99f, 0x1.fffffep-1f}) {
        auto x = test::random_floats(cols, 7 * cols);
        std::vector<float> expected;
        for (std::int64_t i = 0; i < 7 * cols; ++i) {
          x[i] = test::rounded(x[i], dtype);
          expected.push_back(
              reference(x[i], kKey, rows.samples[i / cols], rows.positions[i / cols], i % cols, p));
        }
        const auto bytes = test::to_bytes(x, dtype);
        const auto expected_bytes = test::to_bytes(expected, dtype);
        EXPECT_EQ(
            test::first_difference(dropped(bytes, dtype, rows, cols, kKey, p), expected_bytes), -1)
            << cols << " " << p;
        const test::PortableScope portable;
        EXPECT_EQ(
            test::first_difference(dropped(bytes, dtype, rows, cols, kKey, p), expected_bytes), -1)
            << cols << " " << p << " portable";
      }
    }
  }
}

std::vector<std::byte> mask(const BatchRows& rows, const DropoutKey& key, float p) {
  const std::vector<float> ones(rows.samples.size() * 64, 1.0f);
  return dropped(test::to_bytes(ones, DType::Float32), DType::Float32, rows, 64, key, p);
}

TEST(Dropout, DoesNotDependOnTheOrderOfRows) {
  BatchRows rows(9);
  const auto forward = mask(rows, kKey, 0.3f);
  std::ranges::reverse(rows.samples);
  std::ranges::reverse(rows.positions);
  const auto backward = mask(rows, kKey, 0.3f);
  for (int r = 0; r < 9; ++r) {
    EXPECT_TRUE(std::equal(&forward[r * 256], &forward[r * 256] + 256, &backward[(8 - r) * 256]));
  }
}

TEST(Dropout, EveryPartOfTheKeyMatters) {
  const BatchRows rows(2);
  const auto base = mask(rows, kKey, 0.5f);
  for (const DropoutKey& other : {DropoutKey{kKey.seed + 1, kKey.module},
                                  DropoutKey{kKey.seed, kKey.module + (1ull << 40)}}) {
    EXPECT_NE(mask(rows, other, 0.5f), base);
  }
  for (const std::int64_t other : {sample_name(6, 1), sample_name(5, 2)}) {
    BatchRows moved = rows;
    moved.samples[0] = other;
    EXPECT_NE(mask(moved, kKey, 0.5f), base);
  }
}

TEST(Dropout, NamesSamplesOfEveryEpoch) {
  EXPECT_EQ(sample_name(5, 3), 0x300000005);
  EXPECT_EQ(sample_name(0xffffffff, 0), 0xffffffff);
  for (const std::int64_t wrong : {std::int64_t{-1}, std::int64_t{1} << 32}) {
    EXPECT_THROW(sample_name(wrong, 0), Error);
    EXPECT_THROW(sample_name(0, wrong), Error);
  }
}

TEST(Dropout, KeepsTheExpectedShareAndMean) {
  const std::int64_t n = 1 << 20;
  const BatchRows rows(64);
  const std::vector<float> ones(n, 1.0f);
  const auto out = test::copy_of<float>(std::span<const std::byte>(
      dropped(test::to_bytes(ones, DType::Float32), DType::Float32, rows, n / 64, kKey, 0.1f)));
  const double mean = std::accumulate(out.begin(), out.end(), 0.0) / n;
  // Standard deviation of the mean: sqrt(0.1 / 0.9 / n) = 3.3e-4; five of them.
  EXPECT_NEAR(mean, 1, 5 * 3.3e-4);
}

TEST(Dropout, WorksInPlace) {
  const BatchRows rows(3);
  const auto x = test::to_bytes(test::random_floats(1, 3 * 50), DType::BFloat16);
  auto in_place = x;
  cpu::dropout(in_place.data(), DType::BFloat16, 3, 50, rows.samples.data(), rows.positions.data(),
               kKey, 0.25f, in_place.data(), nullptr);
  EXPECT_EQ(in_place, dropped(x, DType::BFloat16, rows, 50, kKey, 0.25f));
}

}  // namespace
}  // namespace qlora::kernels
