// Bulk conversions against the one-element conversions of qlora/base/dtype.h.

#include "kernels/convert.h"

#include "kernels/support.h"

#include <bit>
#include <cmath>

namespace qlora::kernels {
namespace {

// Around every 16-bit value: itself, its float32 neighbours, and the midpoint to the next.
std::vector<float> hard_values(DType dtype) {
  std::vector<float> values;
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<std::uint16_t>(bits);
    const float value = dtype == DType::Float16 ? fp16_to_float(half) : bf16_to_float(half);
    if (!std::isfinite(value)) continue;
    const auto next = static_cast<std::uint16_t>(bits + 1);
    const float other = dtype == DType::Float16 ? fp16_to_float(next) : bf16_to_float(next);
    const float middle = value + (other - value) / 2;
    values.insert(values.end(), {value, std::nextafter(value, INFINITY)});
    if (std::isfinite(middle)) {
      values.insert(values.end(), {middle, std::nextafter(middle, 0.0f)});
    }
  }
  values.insert(values.end(), {INFINITY, -INFINITY, 3.4028235e38f, 65519.996f, 65520.0f});
  return values;
}

TEST(Convert, StoreRoundsLikeTheScalarConversion) {
  for (const DType dtype : {DType::Float16, DType::BFloat16}) {
    const auto values = hard_values(dtype);
    const auto n = static_cast<std::int64_t>(values.size());
    test::Guarded out(n * 2);
    store_floats(dtype, values.data(), n, out.data(), 0);
    EXPECT_EQ(test::first_difference(out.payload(), test::to_bytes(values, dtype)), -1)
        << name_of(dtype);
  }
}

TEST(Convert, NanStaysNan) {
  const std::vector<float> values(9, std::bit_cast<float>(0x7f800001u));
  for (const DType dtype : test::kFloatTypes) {
    test::Guarded out(9 * static_cast<std::int64_t>(size_of(dtype)));
    store_floats(dtype, values.data(), 9, out.data(), 0);
    for (int i = 0; i < 9; ++i) EXPECT_TRUE(std::isnan(test::element(out.data(), dtype, i)));
  }
}

TEST(Convert, LoadGivesEveryValueExactly) {
  std::vector<std::uint16_t> halves(0x10000);
  for (std::size_t i = 0; i < halves.size(); ++i) halves[i] = static_cast<std::uint16_t>(i);
  for (const DType dtype : {DType::Float16, DType::BFloat16}) {
    test::Guarded out(0x10000 * 4 - 4 * 3);
    load_floats(dtype, halves.data(), 3, 0x10000 - 3, out.data<float>());
    for (std::int64_t i = 3; i < 0x10000; ++i) {
      const float expected = test::element(halves.data(), dtype, i);
      const float found = out.data<float>()[i - 3];
      if (std::isnan(expected)) {
        EXPECT_TRUE(std::isnan(found)) << i;
      } else {
        EXPECT_EQ(std::bit_cast<std::uint32_t>(found), std::bit_cast<std::uint32_t>(expected)) << i;
      }
    }
  }
}

}  // namespace
}  // namespace qlora::kernels
