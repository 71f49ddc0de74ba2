#include "qlora/train/device_batch.h"

#include <ATen/ops/equal.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

namespace qlora::train {
namespace {

// The first row holds two samples, the second one and a pad.
data::Batch packed_batch() {
  return {.rows = 2,
          .length = 3,
          .input_ids = {1, 2, 3, 4, 5, 0},
          .labels = {-100, 2, -100, -100, 5, -100},
          .samples_in_row = {2, 1},
          .lengths = {2, 1, 2},
          .sample_ids = {7, 8, 4}};
}

constexpr std::int64_t kEpochName = std::int64_t{2} << 32;

TEST(DeviceBatch, NamesTheSampleAndPositionOfEveryToken) {
  const DeviceBatch inputs = to_device(packed_batch(), /*epoch=*/2, c10::kCPU);
  const std::vector<std::int64_t> samples{kEpochName + 7, kEpochName + 7, kEpochName + 8,
                                          kEpochName + 4, kEpochName + 4, kEpochName + 4};
  const std::vector<std::int64_t> positions{0, 1, 0, 0, 1, 2};
  const std::vector<std::int64_t> lengths{2, 2, 1, 2, 2, 2};
  EXPECT_TRUE(at::equal(inputs.tokens.samples, at::tensor(samples)));
  EXPECT_TRUE(at::equal(inputs.tokens.positions, at::tensor(positions)));
  EXPECT_TRUE(at::equal(inputs.tokens.lengths, at::tensor(lengths)));
}

TEST(DeviceBatch, PadsBelongToTheLastDocumentOfTheirRow) {
  const Documents documents = documents_of(packed_batch(), /*epoch=*/2);
  EXPECT_EQ(documents.lengths, (std::vector<std::int64_t>{2, 1, 3}));
  EXPECT_EQ(documents.names,
            (std::vector<std::int64_t>{kEpochName + 7, kEpochName + 8, kEpochName + 4}));
}

}  // namespace
}  // namespace qlora::train
