// Micro-batches of every shape through one FusedLlama.

#include "models/fused_support.h"

#include <span>

namespace qlora::models::fused_test {
namespace {

struct MicroBatch {
  BatchShape shape;
  double scale;
};

// The plan's largest, hardly anything, packed rows, one of its lengths, a token more than one, and
// the shortest that there is.
const BatchShape kLargest{4, 256};
constexpr std::int64_t kMostDocuments = 7;  // of packed_rows() and the row that it lacks
std::vector<MicroBatch> mixed_batches() {
  return {{kLargest, 0.25},
          {{1, 5}, 0.5},
          {packed_rows(), 0.5},
          {{2, 64}, 0.75},
          {{1, 193, {100, 93}}, 0.375},
          {{4, 2}, 0.5}};
}

Batch batch_of(const std::vector<MicroBatch>& batches, std::size_t i) {
  return Batch(i + 1, batches[i].shape);
}

Result plain_sum(CausalLM& model, const std::vector<MicroBatch>& batches) {
  zero_gradients(model);
  double loss = 0;
  for (std::size_t i = 0; i < batches.size(); ++i) {
    loss += accumulate_plain(model, batch_of(batches, i), batches[i].scale);
  }
  return collect(model, loss);
}

// What has been accumulated, which becomes zero.
Result take(FusedLlama& fused, CausalLM& model) {
  Result result = collect(model, fused.loss_sum().item<double>());
  fused.loss_sum().zero_();
  zero_gradients(model);
  return result;
}

Result fused_sum(FusedLlama& fused, CausalLM& model, const std::vector<MicroBatch>& batches) {
  for (std::size_t i = 0; i < batches.size(); ++i) {
    fused.accumulate(batch_of(batches, i).token_rows(), batches[i].scale);
  }
  return take(fused, model);
}

TEST(GpuFusedBatches, MixedShapesAndScalesAddUp) {
  QLORA_REQUIRE_GPU();
  const auto batches = mixed_batches();
  for (const bool fixed : {false, true}) {
    const Models models(kFusedFamilies[fixed ? 3 : 2], 1, {.dropout = fixed ? 0.1 : 0.0});
    const Result exact = plain_sum(*models.reference, batches);
    const FusedOptions options = fixed ? fixed_bits() : FusedOptions();
    FusedLlama fused(models.llama(), options_for(kLargest, kMostDocuments, options));
    for (int update = 0; update < 2; ++update) {
      expect_near(fused_sum(fused, *models.model, batches), exact,
                  fmt::format("fixed {} update {}", fixed, update));
    }
  }
}

// Rows one by one, through other graphs than the longest batch's, add up to the whole.
TEST(GpuFusedBatches, MicroBatchesAddUp) {
  QLORA_REQUIRE_GPU();
  const Models models(kFusedFamilies[0], 1);
  const Batch batch(1);
  const Result exact = run_plain(*models.reference, batch);
  FusedLlama fused(models.llama(), options_for(kLargest, 0, {}));
  for (int update = 0; update < 2; ++update) {
    for (std::int64_t row = 0; row < batch.rows; ++row) {
      const auto first = static_cast<std::size_t>(row * batch.length);
      const auto length = static_cast<std::size_t>(batch.length);
      const auto row_index = static_cast<std::size_t>(row);
      fused.accumulate({1, batch.length, std::span(batch.ids).subspan(first, length),
                        std::span(batch.labels).subspan(first, length),
                        std::span(batch.documents).subspan(row_index, 1),
                        std::span(batch.names).subspan(row_index, 1)},
                       1.0);
    }
    expect_near(take(fused, *models.model), exact, fmt::format("update {}", update));
  }
}

TEST(GpuFusedBatches, AMicroBatchLeavesNothingToTheNext) {
  QLORA_REQUIRE_GPU();
  const Models models(kFusedFamilies[4], 1, {.dropout = 0.1});
  const Batch small(1, {1, 5});
  for (const fused::Recompute mode : {fused::Recompute::None, fused::Recompute::Full}) {
    const bool offload = mode == fused::Recompute::Full;
    const FusedOptions options = fixed_bits({.choice = everywhere(mode, offload)});
    FusedLlama fused(models.llama(), options_for(kLargest, kMostDocuments, options));
    fused.accumulate(small.token_rows(), 0.5);
    const Result first = take(fused, *models.model);
    fused_sum(fused, *models.model, mixed_batches());
    fused.accumulate(small.token_rows(), 0.5);
    expect_same_bits(take(fused, *models.model), first, offload ? "recomputed" : "kept");
  }
}

// The loss works through 512 labels at a time.
TEST(GpuFusedBatches, LabelsOfSeveralChunksAddUp) {
  QLORA_REQUIRE_GPU();
  const Models models(kFusedFamilies[0], 1);
  const BatchShape shape{8, 256};
  const Batch whole(1, shape);
  ASSERT_GT(whole.label_count(), 2 * 512);
  FusedLlama fused(models.llama(), options_for(shape, 0, {}));
  for (const std::int64_t labels : {std::int64_t{512}, std::int64_t{513}, whole.label_count()}) {
    Batch batch = whole;
    batch.keep_labels(labels);
    ASSERT_EQ(batch.label_count(), labels);
    fused.accumulate(batch.token_rows(), 0.5);
    Result got = take(fused, *models.model);
    for (auto& [name, gradient] : got.gradients) gradient *= 2;
    expect_near(got, run_plain(*models.reference, batch), fmt::format("{} labels", labels));
  }
}

TEST(GpuFusedBatches, WithoutALabelNothingChanges) {
  QLORA_REQUIRE_GPU();
  const Models models(kFusedFamilies[1], 1, {.dropout = 0.1});
  const Batch batch(1, packed_rows());
  Batch silent = batch;
  silent.keep_labels(0);
  FusedLlama fused(models.llama(),
                   options_for({batch.rows, batch.length}, std::ssize(batch.documents), {}));
  const auto so_far = [&] { return collect(*models.model, fused.loss_sum().item<double>()); };
  fused.accumulate(silent.token_rows(), 0.5);
  const Result nothing = so_far();
  EXPECT_EQ(nothing.loss, 0);
  for (const auto& [name, gradient] : nothing.gradients) {
    EXPECT_EQ(gradient.abs().max().item<double>(), 0) << name;
  }
  fused.accumulate(batch.token_rows(), 1.0);
  const Result something = so_far();
  expect_near(something, run_plain(*models.reference, batch), "with labels");
  fused.accumulate(silent.token_rows(), 0.5);
  expect_same_bits(so_far(), something, "without labels");
}

}  // namespace
}  // namespace qlora::models::fused_test
