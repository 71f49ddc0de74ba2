#include "qlora/kernels/keyed_noise.h"

#include "kernels/gpu_support.h"

namespace qlora::kernels {
namespace {

constexpr DropoutKey kNoiseKey{.seed = 0x123456789abcdefull, .module = 77};

// A ragged batch, with sample ids beyond 32 bits.
struct NoiseRows {
  std::vector<std::int64_t> samples{0x100000005, 0x100000005, 0x100000005, 9, 9};
  std::vector<std::int64_t> positions{0, 1, 0xfffffff0, 0, 1};
  std::vector<float> scales{0.5f, 0.5f, 0.5f, 3, 3};

  std::int64_t count() const { return std::ssize(samples); }
};

std::vector<std::byte> noise_of(const NoiseRows& rows, std::int64_t cols, DType dtype,
                                const DropoutKey& key = kNoiseKey) {
  const auto width = static_cast<std::int64_t>(size_of(dtype));
  test::Guarded out(rows.count() * cols * width, width);
  cpu::keyed_noise(dtype, rows.count(), cols, rows.samples.data(), rows.positions.data(),
                   rows.scales.data(), key, out.data(), nullptr);
  return test::copy_of(out.payload());
}

TEST(KeyedNoise, EqualsItsFormula) {
  const NoiseRows rows;
  const PhiloxKey key = philox_key(kNoiseKey);
  for (const std::int64_t cols : {1, 3, 64, 67}) {
    for (const DType dtype : test::kFloatTypes) {
      const auto bytes = noise_of(rows, cols, dtype);
      for (std::int64_t i = 0; i < rows.count() * cols; ++i) {
        const auto row = static_cast<std::size_t>(i / cols);
        const auto word = [](std::int64_t value) { return static_cast<std::uint32_t>(value); };
        const std::int64_t sample = rows.samples[row];
        const Philox4 drawn = philox(
            {{word(i % cols / 4), word(rows.positions[row]), word(sample), word(sample >> 32)}},
            key);
        const float u = to_unit_float(drawn.words[i % cols % 4]);
        EXPECT_EQ(test::element(bytes.data(), dtype, i),
                  test::rounded(rows.scales[row] * (2 * u - 1), dtype))
            << cols << " " << i;
      }
    }
  }
}

TEST(KeyedNoise, FillsItsRangeEvenly) {
  const NoiseRows rows;
  const auto values = test::copy_of<float>(noise_of(rows, 4096, DType::Float32));
  double sum = 0, squares = 0;
  for (std::size_t i = 0; i < 3 * 4096; ++i) {
    EXPECT_LT(std::abs(values[i]), 0.5f);
    sum += values[i];
    squares += double{values[i]} * values[i];
  }
  // 12,288 draws: three standard deviations of the mean are 0.0078, of the variance 0.002.
  EXPECT_NEAR(sum / (3 * 4096), 0, 0.0078);
  EXPECT_NEAR(squares / (3 * 4096), 1.0 / 12, 0.002);
}

TEST(KeyedNoise, DiffersByModuleSampleAndPosition) {
  const NoiseRows rows;
  const auto noise = noise_of(rows, 8, DType::Float32);
  DropoutKey other = kNoiseKey;
  other.module = 78;
  EXPECT_NE(noise_of(rows, 8, DType::Float32, other), noise);
  const auto row = [&](std::size_t r) {
    return std::vector<std::byte>(noise.begin() + static_cast<std::ptrdiff_t>(32 * r),
                                  noise.begin() + static_cast<std::ptrdiff_t>(32 * (r + 1)));
  };
  EXPECT_NE(row(0), row(1));
  EXPECT_NE(row(3), row(4));
  NoiseRows same = rows;
  same.samples.back() = 10;
  EXPECT_NE(noise_of(same, 8, DType::Float32), noise);
}

class GpuKeyedNoise : public test::GpuTest {};

TEST_F(GpuKeyedNoise, EqualsTheCpu) {
  const NoiseRows rows;
  test::OnDevice samples(rows.samples), positions(rows.positions), scales(rows.scales);
  for (const std::int64_t cols : {1, 3, 64, 1023, 2560}) {
    for (const DType dtype : test::kFloatTypes) {
      const auto expected = noise_of(rows, cols, dtype);
      test::OnDevice out(std::vector<std::byte>(expected.size()));
      cuda::keyed_noise(dtype, rows.count(), cols, samples.data<std::int64_t>(),
                        positions.data<std::int64_t>(), scales.data<float>(), kNoiseKey, out.data(),
                        nullptr);
      test::expect_same(out, expected, fmt::format("{} cols {}", name_of(dtype), cols));
    }
  }
}

}  // namespace
}  // namespace qlora::kernels
