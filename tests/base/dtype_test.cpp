#include "qlora/base/dtype.h"

#include "qlora/base/error.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace qlora {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// A 16-bit float by its definition: (-1)^s · 2^(e - bias) · 1.m, or 2^(1 - bias) · 0.m for e = 0.
float by_definition(unsigned code, int exponent_bits, int mantissa_bits) {
  const unsigned exponent = (code >> mantissa_bits) & ((1u << exponent_bits) - 1);
  const unsigned mantissa = code & ((1u << mantissa_bits) - 1);
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const double sign = (code & 0x8000u) != 0 ? -1 : 1;
  if (exponent == (1u << exponent_bits) - 1) {
    return mantissa != 0 ? std::nanf("") : static_cast<float>(sign) * kInfinity;
  }
  const double significand = mantissa + (exponent != 0 ? std::ldexp(1.0, mantissa_bits) : 0.0);
  const int power = static_cast<int>(exponent != 0 ? exponent : 1) - bias - mantissa_bits;
  return static_cast<float>(sign * std::ldexp(significand, power));
}

struct Format {
  const char* name;
  int exponent_bits;
  int mantissa_bits;
  std::uint16_t (*from_float)(float);
  float (*to_float)(std::uint16_t);
};

class SixteenBitFloat : public ::testing::TestWithParam<Format> {
 protected:
  // The code of positive infinity, one above the largest finite code.
  unsigned infinity_code() const {
    return ((1u << GetParam().exponent_bits) - 1) << GetParam().mantissa_bits;
  }
};

TEST_P(SixteenBitFloat, EveryCodeIsReadAndWrittenBack) {
  const Format& format = GetParam();
  for (unsigned code = 0; code < 0x10000u; ++code) {
    const auto bits = static_cast<std::uint16_t>(code);
    const float value = format.to_float(bits);
    const float expected = by_definition(code, format.exponent_bits, format.mantissa_bits);
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(value)) << code;
      ASSERT_TRUE(std::isnan(format.to_float(format.from_float(value)))) << code;
      continue;
    }
    ASSERT_EQ(std::bit_cast<std::uint32_t>(value), std::bit_cast<std::uint32_t>(expected)) << code;
    ASSERT_EQ(format.from_float(value), bits) << code;
  }
}

TEST_P(SixteenBitFloat, TiesGoToEvenAndNeighboursToTheNearest) {
  const Format& format = GetParam();
  for (unsigned code = 0; code + 1 < infinity_code(); ++code) {
    const double low = format.to_float(static_cast<std::uint16_t>(code));
    const double high = format.to_float(static_cast<std::uint16_t>(code + 1));
    const auto middle = static_cast<float>((low + high) / 2);
    ASSERT_EQ(middle, (low + high) / 2) << "the middle is a float";
    const unsigned even = code % 2 == 0 ? code : code + 1;
    ASSERT_EQ(format.from_float(middle), even) << code;
    ASSERT_EQ(format.from_float(-middle), even | 0x8000u) << code;
    ASSERT_EQ(format.from_float(std::nextafter(middle, 0.0f)), code) << code;
    ASSERT_EQ(format.from_float(std::nextafter(middle, kInfinity)), code + 1) << code;
  }
}

TEST_P(SixteenBitFloat, InfinityStartsHalfAStepAboveTheLargestAndNanStaysNan) {
  const Format& format = GetParam();
  const unsigned largest = infinity_code() - 1;
  const float top = format.to_float(static_cast<std::uint16_t>(largest));
  const float below_top = format.to_float(static_cast<std::uint16_t>(largest - 1));
  const float limit = top + (top - below_top) / 2;
  EXPECT_EQ(format.from_float(std::nextafter(limit, 0.0f)), largest);
  EXPECT_EQ(format.from_float(limit), infinity_code());
  EXPECT_EQ(format.from_float(-limit), infinity_code() | 0x8000u);
  EXPECT_EQ(format.from_float(kInfinity), infinity_code());
  const auto nan_in_the_lost_bits = std::bit_cast<float>(0x7f800001u);
  EXPECT_TRUE(std::isnan(format.to_float(format.from_float(nan_in_the_lost_bits))));
}

// float_to_bf16 and its inverse are inline; these give them addresses.
std::uint16_t to_bf16(float value) { return float_to_bf16(value); }
float from_bf16(std::uint16_t bits) { return bf16_to_float(bits); }

INSTANTIATE_TEST_SUITE_P(Formats, SixteenBitFloat,
                         ::testing::Values(Format{"fp16", 5, 10, float_to_fp16, fp16_to_float},
                                           Format{"bf16", 8, 7, to_bf16, from_bf16}),
                         [](const auto& format) { return format.param.name; });

TEST(DTypeTest, NamesAndSizesGoBothWays) {
  for (const auto dtype :
       {DType::Float64, DType::Float32, DType::Float16, DType::BFloat16, DType::Int64, DType::Int32,
        DType::Int16, DType::Int8, DType::UInt8, DType::Bool}) {
    EXPECT_EQ(dtype_from_name(name_of(dtype)), dtype);
  }
  EXPECT_EQ(name_of(DType::BFloat16), "bfloat16");
  EXPECT_EQ(size_of(DType::Float64), 8u);
  EXPECT_EQ(size_of(DType::BFloat16), 2u);
  EXPECT_EQ(size_of(DType::Bool), 1u);
  EXPECT_THROW(dtype_from_name("float8"), Error);
}

}  // namespace
}  // namespace qlora
