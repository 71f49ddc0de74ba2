#include "qlora/tensor/packed_attention.h"

#include "kernels/attention_batch.h"
#include "support/message.h"

#include <ATen/Context.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

namespace qlora::tensor {
namespace {

namespace test = kernels::test;
using kernels::AttentionShape;

std::string flash_problem(AttentionShape shape) {
  return flash_attention_problem(shape).value_or("none");
}

AttentionShape shape_with(std::int64_t heads, std::int64_t dim, std::int64_t slots,
                          std::int64_t tokens) {
  AttentionShape shape{.query_heads = heads,
                       .key_heads = heads,
                       .head_dim = dim,
                       .slots = slots,
                       .longest = 1024,
                       .tokens = tokens};
  shape.strides = test::strides_of(shape, 0);
  return shape;
}

TEST(FlashAttention, RefusesWhatOverflowsThirtyTwoBits) {
  // (T + 128·slots)·H·roundup(D, 32) < 2^31: 32 heads of 128 leave 524,287 rows, of 80 699,050.
  EXPECT_EQ(flash_problem(shape_with(32, 128, 16, 524288 - 16 * 128)),
            "expected at most 522239 tokens with 16 slots, got 522240");
  EXPECT_EQ(flash_problem(shape_with(32, 80, 1, 699051 - 128)),
            "expected at most 698922 tokens with 1 slots, got 698923");
  const std::string device = c10::cuda::device_count() == 0 ? "no CUDA device" : "none";
  EXPECT_EQ(flash_problem(shape_with(32, 128, 16, 522239)), device);
  EXPECT_EQ(flash_problem(shape_with(32, 80, 1, 698922)), device);
}

TEST(FlashAttention, SaysWhatIsWrongWithAShape) {
  EXPECT_EQ(flash_problem(shape_with(4, 264, 1, 2048)), "expected a head of at most 256, got 264");
  EXPECT_EQ(flash_problem(shape_with(4, 60, 1, 2048)),
            "expected a head of a multiple of 8, got 60");
}

TEST(PackedAttention, SaysThatThereIsNoDevice) {
  if (c10::cuda::device_count() > 0) GTEST_SKIP() << "there is one";
  for (const bool deterministic : {false, true}) {
    const auto make = [&] { make_packed_attention(shape_with(4, 64, 1, 2048), deterministic); };
    EXPECT_EQ(qlora::test::message_of(make), "attention by FlashAttention-2: no CUDA device");
  }
}

class GpuFlashAttention : public test::GpuTest {};

TEST_F(GpuFlashAttention, EqualsTheReference) {
  for (const auto make : {+[](const AttentionShape& s) { return make_flash_attention(s, false); },
                          +[](const AttentionShape& s) { return make_flash_attention(s, true); }}) {
    test::expect_all_cases(make);
    test::expect_any_packing(make);
  }
}

TEST_F(GpuFlashAttention, RepeatsItsBitsWhereDeterministic) {
  const test::AttentionCase c{
      .query_heads = 8, .key_heads = 2, .head_dim = 80, .lengths = {700, 0, 1300, 1}};
  const AttentionShape shape = test::shape_of(c);
  const auto attention = make_flash_attention(shape, true);
  test::AttentionBatch batch(shape, c.lengths);
  batch.run(*attention, nullptr);
  const auto first = batch.outputs();
  for (int i = 0; i < 5; ++i) {
    batch.run(*attention, nullptr);
    EXPECT_EQ(batch.outputs(), first);
  }
  EXPECT_FALSE(at::globalContext().deterministicAlgorithms());
  EXPECT_TRUE(at::globalContext().deterministicFillUninitializedMemory());
}

TEST_F(GpuFlashAttention, RunsInsideACudaGraph) {
  const test::AttentionCase c{.query_heads = 4, .key_heads = 2, .head_dim = 80};
  const AttentionShape shape = test::shape_of(c);
  const auto attention = make_flash_attention(shape, true);
  test::AttentionBatch batch(shape, c.lengths);
  batch.run(*attention, nullptr);
  at::cuda::CUDAGraph graph;
  const c10::cuda::CUDAStream stream = c10::cuda::getStreamFromPool();
  {
    const c10::cuda::CUDAStreamGuard guard(stream);
    graph.capture_begin();
    batch.run(*attention, stream.stream());
    graph.capture_end();
    const std::vector<std::int32_t> other = {130, 0, 60, 41, 1, 1, 0};
    batch.set_lengths(other);
    graph.replay();
  }
  stream.synchronize();
  batch.expect_reference("replayed with other documents");
}

TEST_F(GpuFlashAttention, StaysInTheMemoryItStates) {
  for (const bool deterministic : {false, true}) {
    const test::AttentionCase c{
        .query_heads = 32, .key_heads = 8, .head_dim = 80, .padding = 8, .lengths = {1024, 900}};
    const AttentionShape shape = test::shape_of(c);
    const auto attention = make_flash_attention(shape, deterministic);
    test::AttentionBatch batch(shape, c.lengths);
    batch.run(*attention, nullptr);
    c10::cuda::CUDACachingAllocator::emptyCache();
    c10::cuda::CUDACachingAllocator::resetPeakStats(0);
    const auto held = [](bool peak) {
      const auto stats = c10::cuda::CUDACachingAllocator::getDeviceStats(0);
      return peak ? stats.allocated_bytes[0].peak : stats.allocated_bytes[0].current;
    };
    const std::int64_t before = held(false);
    batch.run(*attention, nullptr);
    const std::int64_t taken = held(true) - before;
    EXPECT_LE(taken, attention->allocated_bytes());
    EXPECT_GE(taken, attention->allocated_bytes() / 2);
    EXPECT_EQ(held(false), before);
  }
}

class GpuPackedAttention : public test::GpuTest {};

// cuDNN takes its memory from the caller, FlashAttention-2 from the allocator.
TEST_F(GpuPackedAttention, ChoosesByShapeAndMode) {
  AttentionShape shape = shape_with(4, 64, 4, 4096);
  if (const auto problem = kernels::cuda::cudnn_attention_problem(shape)) {
    GTEST_SKIP() << *problem;
  }
  EXPECT_EQ(make_packed_attention(shape, false)->allocated_bytes(), 0);
  EXPECT_GT(make_packed_attention(shape, true)->allocated_bytes(), 0);
  shape.longest = 64;
  EXPECT_GT(make_packed_attention(shape, false)->allocated_bytes(), 0);
}

}  // namespace
}  // namespace qlora::tensor
