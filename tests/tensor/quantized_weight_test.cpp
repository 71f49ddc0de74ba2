#include "qlora/tensor/quantized_weight.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace qlora::tensor {
namespace {

TEST(QuantizedWeight, StaysNearTheOriginal) {
  at::manual_seed(1);
  const at::Tensor weight = at::randn({96, 65});
  for (const auto type : {kernels::QuantType::NF4, kernels::QuantType::FP4}) {
    for (const bool nested : {false, true}) {
      const at::Tensor back = quantize(weight, type, 64, nested)->dequantize(at::kFloat);
      const double relative = ((back - weight).norm() / weight.norm()).item<double>();
      // Normal data loses 9 % (NF4) to 12 % (FP4) of its norm to four bits.
      EXPECT_GT(relative, 0.05);
      EXPECT_LT(relative, 0.15);
    }
  }
}

TEST(QuantizedWeight, HoldsAboutFourBitsPerElement) {
  const at::Tensor weight = at::randn({256, 1024});
  const double n = static_cast<double>(weight.numel());
  const auto plain = quantize(weight, kernels::QuantType::NF4, 64, false);
  const auto nested = quantize(weight, kernels::QuantType::NF4, 64, true);
  EXPECT_EQ(plain->byte_count(), weight.numel() / 2 + 4 * weight.numel() / 64);
  // 4 + 8/64 + 32/(64·256) bits, and one 1 KiB code table.
  EXPECT_NEAR(static_cast<double>(nested->byte_count() - 1024) * 8 / n, 4.127, 0.001);
}

TEST(QuantizedWeight, SixteenBitOutputIsTheFloatOutputRounded) {
  const at::Tensor weight = at::randn({33, 7});
  const auto quantized = quantize(weight, kernels::QuantType::NF4, 64, true);
  const at::Tensor wide = quantized->dequantize(at::kFloat);
  EXPECT_TRUE(at::equal(quantized->dequantize(at::kBFloat16), wide.to(at::kBFloat16)));
  EXPECT_TRUE(at::equal(quantized->dequantize(at::kHalf), wide.to(at::kHalf)));
  EXPECT_TRUE(at::equal(quantized->dequantize(at::kDouble), wide.to(at::kDouble)));
}

}  // namespace
}  // namespace qlora::tensor
