#include "qlora/train/device_batch.h"

#include <ATen/ops/equal.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

namespace qlora::train {
namespace {

TEST(DeviceBatch, NamesTheSampleAndPositionOfEveryToken) {
  const data::Batch batch{.rows = 2,
                          .length = 3,
                          .input_ids = {1, 2, 3, 4, 5, 0},
                          .labels = {1, 2, 3, 4, 5, -100},
                          .lengths = {3, 2},
                          .sample_ids = {7, 4}};
  const DeviceBatch inputs = to_device(batch, /*epoch=*/2, c10::kCPU);
  const std::int64_t epoch = std::int64_t{2} << 32;
  const std::vector<std::int64_t> samples{epoch + 7, epoch + 7, epoch + 7,
                                          epoch + 4, epoch + 4, epoch + 4};
  const std::vector<std::int64_t> positions{0, 1, 2, 0, 1, 2};
  EXPECT_TRUE(at::equal(inputs.tokens.samples, at::tensor(samples)));
  EXPECT_TRUE(at::equal(inputs.tokens.positions, at::tensor(positions)));
}

}  // namespace
}  // namespace qlora::train
