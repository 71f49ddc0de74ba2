#include "qlora/kernels/attention.h"

#include "kernels/attention_batch.h"
#include "support/message.h"

#include <gmock/gmock.h>

namespace qlora::kernels {
namespace {

AttentionShape good_shape() { return test::shape_of({.query_heads = 8, .key_heads = 2}); }

TEST(Attention, IndexesDocuments) {
  AttentionShape shape{.query_heads = 2, .key_heads = 1, .head_dim = 8, .slots = 4, .longest = 5};
  shape.strides = {.q = 10, .k = 20, .v = 30, .o = 40, .d_o = 50, .d_q = 60, .d_k = 70, .d_v = 80};
  const auto starts = test::starts_of({3, 0, 5, 0});
  test::Guarded lengths(4 * 4), offsets(9 * 5 * 8);
  cpu::index_documents(
      shape, {starts.data(), lengths.data<std::int32_t>(), offsets.data<std::int64_t>()}, nullptr);
  EXPECT_EQ(test::copy_of<std::int32_t>(lengths.payload()),
            (std::vector<std::int32_t>{3, 0, 5, 0}));
  std::vector<std::int64_t> expected;
  for (const std::int64_t stride : {10, 20, 30, 40, 50, 60, 70, 80, 2}) {
    for (const std::int64_t start : {0, 3, 3, 8, 8}) expected.push_back(start * stride);
  }
  EXPECT_EQ(test::copy_of<std::int64_t>(offsets.payload()), expected);
}

TEST(Attention, OffsetsPassTheRangeOfInt32) {
  AttentionShape shape{.query_heads = 1, .key_heads = 1, .head_dim = 8, .slots = 1};
  shape.strides.q = 1 << 20;
  const std::vector<std::int32_t> starts = {0, 1 << 20};
  std::int32_t length = 0;
  std::vector<std::int64_t> offsets(9 * 2);
  cpu::index_documents(shape, {starts.data(), &length, offsets.data()}, nullptr);
  EXPECT_EQ(offsets[1], 1ll << 40);
}

TEST(Attention, SaysWhatIsWrongWithAShape) {
  EXPECT_EQ(attention_shape_problem(good_shape()), std::nullopt);
  const auto problem = [](auto change) {
    AttentionShape shape = good_shape();
    change(shape);
    return attention_shape_problem(shape).value_or("none");
  };
  EXPECT_EQ(problem([](auto& s) { s.dtype = DType::Float32; }),
            "expected bfloat16 or float16 elements, got float32");
  EXPECT_EQ(problem([](auto& s) { s.key_heads = 3; }),
            "expected key heads that divide the query heads, got 3 and 8");
  EXPECT_EQ(problem([](auto& s) { s.head_dim = 60; }),
            "expected a head of a multiple of 8, got 60");
  EXPECT_EQ(problem([](auto& s) { s.longest = 1; }),
            "expected documents of 2 to 260 tokens, got 7 slots of up to 1");
  EXPECT_EQ(problem([](auto& s) { s.longest = 261; }),
            "expected documents of 2 to 260 tokens, got 7 slots of up to 261");
  EXPECT_EQ(problem([](auto& s) { s.strides.d_q -= 8; }),
            "expected strides of at least heads times head_dim");
  EXPECT_EQ(problem([](auto& s) { s.strides.d_v -= 8; }),
            "expected strides of at least heads times head_dim");
  EXPECT_EQ(problem([](auto& s) { s.strides.o += 4; }), "expected strides that are multiples of 8");
}

TEST(Attention, CudnnSaysThatThereIsNoDevice) {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) == cudaSuccess && devices > 0) GTEST_SKIP() << "there is one";
  EXPECT_EQ(cuda::cudnn_attention_problem(good_shape()), "no CUDA device");
  EXPECT_THAT(qlora::test::message_of([] { cuda::make_cudnn_attention(good_shape()); }),
              testing::HasSubstr("cudnnCreate failed"));
}

// The reference of the GPU tests against numeric gradients of sum(d_o * o).
TEST(Attention, ReferenceHasNumericGradients) {
  const AttentionShape shape{.query_heads = 4, .key_heads = 2, .head_dim = 8, .tokens = 8};
  const auto starts = test::starts_of({5, 0, 2});
  const auto random = [](std::uint64_t seed, std::int64_t n) {
    const auto floats = test::random_floats(seed, n);
    return std::vector<double>(floats.begin(), floats.end());
  };
  test::AttentionValues x{.q = random(1, 8 * 4 * 8),
                          .k = random(2, 8 * 2 * 8),
                          .v = random(3, 8 * 2 * 8),
                          .d_o = random(4, 8 * 4 * 8)};
  const auto loss = [&](const test::AttentionValues& at) {
    test::AttentionValues y = at;
    test::reference_attention(shape, starts, y);
    double sum = 0;
    for (std::size_t i = 0; i < y.o.size(); ++i) sum += y.o[i] * y.d_o[i];
    return sum;
  };
  test::reference_attention(shape, starts, x);
  const auto expect_gradient = [&](std::vector<double> test::AttentionValues::*input,
                                   const std::vector<double>& gradient) {
    for (std::size_t i = 0; i < gradient.size(); i += 3) {
      test::AttentionValues above = x, below = x;
      (above.*input)[i] += 1e-5;
      (below.*input)[i] -= 1e-5;
      EXPECT_NEAR((loss(above) - loss(below)) / 2e-5, gradient[i], 1e-7);
    }
  };
  expect_gradient(&test::AttentionValues::q, x.d_q);
  expect_gradient(&test::AttentionValues::k, x.d_k);
  expect_gradient(&test::AttentionValues::v, x.d_v);
}

}  // namespace
}  // namespace qlora::kernels
