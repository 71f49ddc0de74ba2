// The layout of augmented_weight.h, element by element.

#include "kernels/augmented_group.h"
#include "qlora/kernels/dequantize_4bit.h"

namespace qlora::kernels {
namespace {

// Part i's frozen weight as the kernel shall round it, [out, in].
std::vector<float> weight_of(const test::HostGroup& host, std::size_t i, DType dtype) {
  const AugmentedPart& part = host.group.parts[i];
  std::vector<float> weight(part.out * host.group.in);
  if (part.dense == nullptr) {
    cpu::dequantize_4bit(part.type, part.packed, part.absmax, 0, part.out * host.group.in,
                         part.block, weight.data(), DType::Float32, nullptr);
  }
  for (std::size_t e = 0; e < weight.size(); ++e) {
    weight[e] = part.dense != nullptr ? test::element(part.dense, dtype, e)
                                      : test::rounded(weight[e], dtype);
  }
  return weight;
}

// What stands at (row, col) of the whole matrix.
float expected(const test::HostGroup& host, const std::vector<std::vector<float>>& weights,
               std::int64_t row, std::int64_t col, DType dtype) {
  const AugmentedGroup& group = host.group;
  const bool extra_row = row >= group.padded_out();
  const bool extra_col = col >= group.padded_in();
  if (extra_row && extra_col) return 0;
  for (std::size_t i = 0; i < group.count; ++i) {
    const AugmentedPart& part = group.parts[i];
    const std::int64_t out = row - group.row_of(i);
    const std::int64_t row_rank = row - group.padded_out() - group.rank_before(i);
    const std::int64_t col_rank = col - group.padded_in() - group.rank_before(i);
    const bool mine = !extra_row && out >= 0 && out < part.out;
    if (mine && col < group.in) return weights[i][out * group.in + col];
    if (mine && extra_col && col_rank >= 0 && col_rank < part.rank) {
      return test::element(part.scaled_b, dtype, out * part.rank + col_rank);
    }
    if (extra_row && row_rank >= 0 && row_rank < part.rank && col < group.in) {
      return test::element(part.a, dtype, row_rank * group.in + col);
    }
  }
  return 0;
}

TEST(AugmentedWeight, LaysWeightsAndAdaptersAsStated) {
  for (const auto& c : test::kGroupCases) {
    for (const DType dtype : test::kFloatTypes) {
      const test::HostGroup host(c.in, c.parts, dtype, /*nested=*/true);
      const AugmentedGroup& group = host.group;
      std::vector<std::vector<float>> weights;
      for (std::size_t i = 0; i < group.count; ++i) weights.push_back(weight_of(host, i, dtype));
      test::Guarded out(group.element_count() * static_cast<std::int64_t>(size_of(dtype)));
      cpu::augment_weight(group, out.data(), dtype, nullptr);
      std::int64_t wrong = 0;
      for (std::int64_t row = 0; row < group.padded_out() + group.extra(); ++row) {
        for (std::int64_t col = 0; col < group.stride(); ++col) {
          const float got = test::element(out.data(), dtype, row * group.stride() + col);
          if (got != expected(host, weights, row, col, dtype)) ++wrong;
        }
      }
      EXPECT_EQ(wrong, 0) << c.name << ' ' << name_of(dtype);
    }
  }
}

TEST(AugmentedWeight, SizesArePadded) {
  const test::HostGroup host(172, {{20, 4}, {8, 61}}, DType::BFloat16, false);
  EXPECT_EQ(host.group.padded_in(), 176);
  EXPECT_EQ(host.group.row_of(1), 24);
  EXPECT_EQ(host.group.padded_out(), 32);
  EXPECT_EQ(host.group.rank_before(1), 16);
  EXPECT_EQ(host.group.rank_sum(), 80);
  EXPECT_EQ(host.group.extra(), 128);
  EXPECT_EQ(host.group.element_count(), (32 + 128) * (176 + 128));
}

}  // namespace
}  // namespace qlora::kernels
