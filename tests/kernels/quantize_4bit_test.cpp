#include "qlora/kernels/quantize_4bit.h"

#include "kernels/support.h"
#include "qlora/base/narrow.h"
#include "qlora/kernels/code_tables.h"
#include "qlora/kernels/dynamic_maps.h"

#include <algorithm>
#include <cmath>

namespace qlora::kernels {
namespace {

using test::Guarded;

// The nearest code by exhaustive search; of two equally near ones the lower (NF4) or the one of
// smaller magnitude (FP4), as the kernels' thresholds have it.
int nf4_code(float x) {
  int code = 0;
  while (code < 15 && x > (kNf4Codes[code] + kNf4Codes[code + 1]) * 0.5f) ++code;
  return code;
}

int fp4_code(float x) {
  const float bounds[] = {0.00260417f, 0.0859375f, 0.20833333f, 0.29166667f,
                          0.4166667f,  0.583333f,  0.8333333f};
  const int of_rank[] = {0, 1, 6, 7, 4, 5, 2, 3};
  int rank = 0;
  while (rank < 7 && std::fabs(x) > bounds[rank]) ++rank;
  return of_rank[rank] + (x < 0 ? 8 : 0);
}

struct Quantized {
  std::vector<std::byte> packed;
  std::vector<std::byte> absmax;
};

Quantized reference(QuantType type, const std::vector<float>& x, std::int64_t block) {
  const auto n = static_cast<std::int64_t>(x.size());
  std::vector<std::uint8_t> packed(div_up<std::int64_t>(n, 2));
  std::vector<float> absmax(div_up(n, block));
  for (std::int64_t i = 0; i < n; ++i) {
    absmax[i / block] = std::max(absmax[i / block], std::fabs(x[i]));
  }
  for (std::int64_t i = 0; i < n + n % 2; ++i) {
    const float inverse = 1 / std::max(absmax[std::min(i, n - 1) / block], 1e-38f);
    const float scaled = i < n ? x[i] * inverse : 0;
    const int code = type == QuantType::NF4 ? nf4_code(scaled) : fp4_code(scaled);
    packed[i / 2] = static_cast<std::uint8_t>(packed[i / 2] | (i % 2 == 0 ? code << 4 : code));
  }
  return {test::copy_of(std::as_bytes(std::span(packed))),
          test::copy_of(std::as_bytes(std::span(absmax)))};
}

Quantized quantized(QuantType type, const std::vector<float>& x, DType dtype, std::int64_t block) {
  const auto n = static_cast<std::int64_t>(x.size());
  Guarded weight(n * static_cast<std::int64_t>(size_of(dtype)), 4);
  std::ranges::copy(test::to_bytes(x, dtype), weight.payload().begin());
  Guarded packed(div_up<std::int64_t>(n, 2), 1);
  Guarded absmax(div_up(n, block) * 4, 4);
  cpu::quantize_4bit(type, weight.data(), dtype, n, block, packed.data<std::uint8_t>(),
                     absmax.data<float>(), nullptr);
  return {test::copy_of(packed.payload()), test::copy_of(absmax.payload())};
}

void expect_equal(const Quantized& a, const Quantized& b, const std::string& where) {
  EXPECT_EQ(test::first_difference(a.absmax, b.absmax), -1) << where;
  EXPECT_EQ(test::first_difference(a.packed, b.packed), -1) << where;
}

TEST(Quantize4bit, EqualsTheReferenceOnBothPaths) {
  for (const QuantType type : {QuantType::NF4, QuantType::FP4}) {
    for (const DType dtype : test::kFloatTypes) {
      for (const std::int64_t block : {32, 64, 256, 4096}) {
        for (const std::int64_t n : {1, 31, 63, 64, 65, 1000, 4097, 70001}) {
          std::vector<float> x = test::random_floats(n, n, 0.1f);
          for (float& value : x) value = test::rounded(value, dtype);
          const std::string where =
              fmt::format("{} {} block {} n {}", static_cast<int>(type), name_of(dtype), block, n);
          const Quantized expected = reference(type, x, block);
          expect_equal(quantized(type, x, dtype, block), expected, where);
          const test::PortableScope portable;
          expect_equal(quantized(type, x, dtype, block), expected, where + " portable");
        }
      }
    }
  }
}

TEST(Quantize4bit, TiesTakeTheLowerCodeAndTheSmallerMagnitude) {
  std::vector<float> x(64, 0.0f);
  x[0] = 1;
  for (int i = 0; i < 15; ++i) x[1 + i] = kNf4Thresholds[i];
  for (int i = 0; i < 7; ++i) x[16 + i] = kFp4Thresholds[i], x[23 + i] = -kFp4Thresholds[i];
  const auto code = [&](QuantType type, int i) {
    const int byte = std::to_integer<int>(quantized(type, x, DType::Float32, 64).packed[i / 2]);
    return i % 2 == 0 ? byte >> 4 : byte & 15;
  };
  for (int i = 0; i < 15; ++i) EXPECT_EQ(code(QuantType::NF4, 1 + i), i);
  const int smaller[] = {0, 1, 6, 7, 4, 5, 2};
  for (int i = 0; i < 7; ++i) {
    EXPECT_EQ(code(QuantType::FP4, 16 + i), smaller[i]);
    EXPECT_EQ(code(QuantType::FP4, 23 + i), smaller[i] + 8);
  }
}

TEST(Quantize4bit, ZeroTinyAndNonFiniteBlocks) {
  const float nan = std::nanf("");
  for (const bool portable_only : {false, true}) {
    force_portable(portable_only);
    std::vector<float> x(64 * 4, 0.0f);
    for (int i = 64; i < 128; ++i) x[i] = 1e-42f;  // 1 / absmax would be infinite
    x[128] = nan, x[129] = -2;                     // NaN is passed over by the scale
    x[192] = INFINITY, x[193] = 3;                 // infinity makes everything else 0
    const Quantized nf4 = quantized(QuantType::NF4, x, DType::Float32, 64);
    const Quantized fp4 = quantized(QuantType::FP4, x, DType::Float32, 64);
    const auto absmax = test::copy_of<float>(nf4.absmax);
    EXPECT_EQ(absmax, (std::vector<float>{0, 1e-42f, 2, INFINITY}));
    for (int i = 0; i < 32; ++i) {
      EXPECT_EQ(nf4.packed[i], std::byte{0x77});
      EXPECT_EQ(fp4.packed[i], std::byte{0x00});
    }
    EXPECT_EQ(nf4.packed[64], std::byte{0x00});  // NaN, -1
    EXPECT_EQ(fp4.packed[64], std::byte{0x0b});
    EXPECT_EQ(nf4.packed[96], std::byte{0x07});  // Inf * 0, 0
  }
  force_portable(false);
}

// Nearest entry in double; the even one of two that are equally near in float32.
int nearest_by_search(float x) {
  int best = 0;
  for (int code = 1; code < 256; ++code) {
    const float middle = (kSignedMap[code - 1] + kSignedMap[code]) * 0.5f;
    if (x > middle || (x == middle && code % 2 == 0)) best = code;
  }
  return best;
}

TEST(QuantizeAbsmax, EqualsTheReferenceOnBothPaths) {
  for (const std::int64_t blocks : {1, 7, 255, 256, 257, 5003}) {
    std::vector<float> absmax = test::random_floats(blocks, blocks);
    for (float& value : absmax) value = std::fabs(value);
    double sum = 0;
    for (const float value : absmax) sum += value;
    const auto mean = static_cast<float>(sum / static_cast<double>(blocks));
    std::vector<float> largest(div_up<std::int64_t>(blocks, 256));
    for (std::int64_t i = 0; i < blocks; ++i) {
      largest[i / 256] = std::max(largest[i / 256], std::fabs(absmax[i] - mean));
    }
    for (const bool portable_only : {false, true}) {
      force_portable(portable_only);
      Guarded codes(blocks, 3);
      Guarded nested(static_cast<std::int64_t>(largest.size()) * 4);
      Guarded offset(4);
      cpu::quantize_absmax(absmax.data(), blocks, codes.data<std::uint8_t>(), nested.data<float>(),
                           offset.data<float>(), nullptr);
      EXPECT_EQ(*offset.data<float>(), mean);
      EXPECT_EQ(test::copy_of<float>(nested.payload()), largest);
      for (std::int64_t i = 0; i < blocks; ++i) {
        const float inverse = 1 / std::max(largest[i / 256], 1e-38f);
        const float x = (absmax[i] - mean) * inverse;
        ASSERT_EQ(codes.data<std::uint8_t>()[i], nearest_by_search(x)) << blocks << " " << i;
      }
    }
    force_portable(false);
  }
}

}  // namespace
}  // namespace qlora::kernels
