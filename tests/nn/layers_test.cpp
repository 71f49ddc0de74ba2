#include "qlora/nn/attention.h"
#include "qlora/nn/rms_norm.h"
#include "qlora/nn/rope.h"

#include "qlora/base/error.h"
#include "support/gradcheck.h"

namespace qlora::nn {
namespace {

TEST(RmsNorm, NumericGradient) {
  test::expect_gradients([](const auto& in) { return RmsNorm(in[1], 1e-3).forward(in[0]); },
                         {test::random_leaf({3, 2, 5}, 1), test::random_leaf({5}, 2)});
}

TEST(RmsNorm, RoundsToTheActivationTypeBeforeTheWeight) {
  const at::Tensor x = at::randn({4, 64}).to(at::kBFloat16);
  const at::Tensor weight = at::randn({64}).to(at::kBFloat16);
  const at::Tensor wide = x.to(at::kFloat);
  const at::Tensor normalized = wide * (wide.square().mean(-1, true) + 1e-5).rsqrt();
  EXPECT_TRUE(at::equal(RmsNorm(weight, 1e-5).forward(x), normalized.to(at::kBFloat16) * weight));
}

TEST(Rope, NumericGradient) {
  RopeTable table({1.0, 0.1, 0.01}, 32, c10::kCPU, at::kDouble);
  test::expect_gradients([&](const auto& in) { return table.rotate(in[0], 3); },
                         {test::random_leaf({1, 4, 2, 6}, 1)});
}

// A turn keeps each pair's length and makes products depend on the distance alone.
TEST(Rope, ProductsDependOnDistance) {
  RopeTable table({0.7, 0.05}, 64, c10::kCPU, at::kDouble);
  const at::Tensor q = test::random_leaf({1, 1, 1, 4}, 1, false);
  const at::Tensor k = test::random_leaf({1, 1, 1, 4}, 2, false);
  const auto product = [&](std::int64_t a, std::int64_t b) {
    return (table.rotate(q, a) * table.rotate(k, b)).sum().item<double>();
  };
  EXPECT_NEAR(product(9, 4), product(25, 20), 1e-12);
  EXPECT_GT(std::abs(product(9, 4) - product(9, 5)), 1e-3);
}

// Two documents in one row: of 3 and of 2 tokens.
TEST(Rope, PositionsOfEachDocumentRestart) {
  RopeTable table({1.0, 0.1, 0.01}, 32, c10::kCPU, at::kDouble);
  const at::Tensor positions = at::tensor({0, 1, 2, 0, 1}, at::kLong);
  const at::Tensor x = test::random_leaf({1, 5, 2, 6}, 1);
  const at::Tensor apart =
      at::cat({table.rotate(x.slice(1, 0, 3), 0), table.rotate(x.slice(1, 3), 0)}, 1);
  EXPECT_TRUE(at::equal(table.rotate(x, positions), apart));
  test::expect_gradients([&](const auto& in) { return table.rotate(in[0], positions); }, {x});
}

TEST(Rope, RefusesPositionsBeyondTheModels) {
  RopeTable table({1.0}, 16, c10::kCPU, at::kFloat);
  EXPECT_NO_THROW(table.rotate(at::zeros({1, 1, 1, 2}), 15));
  EXPECT_THROW(table.rotate(at::zeros({1, 1, 1, 2}), 16), Error);
}

at::Tensor naive_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  const std::int64_t group = q.size(2) / k.size(2);
  const std::int64_t before = k.size(1) - q.size(1);
  at::Tensor out = at::zeros_like(q);
  for (std::int64_t h = 0; h < q.size(2); ++h) {
    for (std::int64_t t = 0; t < q.size(1); ++t) {
      const at::Tensor keys = k[0].slice(0, 0, before + t + 1).select(1, h / group);
      const at::Tensor values = v[0].slice(0, 0, before + t + 1).select(1, h / group);
      const at::Tensor scores = keys.mv(q[0][t][h]) / std::sqrt(static_cast<double>(q.size(3)));
      out[0][t][h] = scores.softmax(0).matmul(values);
    }
  }
  return out.flatten(2);
}

TEST(Attention, EqualsTheNaiveLoop) {
  for (const std::int64_t before : {0, 3}) {
    const at::Tensor q = test::random_leaf({1, 5, 6, 8}, 1, false);
    const at::Tensor k = test::random_leaf({1, 5 + before, 2, 8}, 2, false);
    const at::Tensor v = test::random_leaf({1, 5 + before, 2, 8}, 3, false);
    EXPECT_TRUE(at::allclose(causal_attention(q, k, v), naive_attention(q, k, v), 1e-12, 1e-12))
        << before;
  }
}

// Rows of 5 tokens: documents of 3 and 2, of 1 and 4.
TEST(Attention, DocumentsOfARowDoNotSeeEachOther) {
  const std::vector<std::int64_t> documents{3, 2, 1, 4};
  const at::Tensor q = test::random_leaf({2, 5, 2, 2}, 1);
  const at::Tensor k = test::random_leaf({2, 5, 1, 2}, 2);
  const at::Tensor v = test::random_leaf({2, 5, 1, 2}, 3);
  std::vector<at::Tensor> apart;
  std::int64_t begin = 0;
  for (const std::int64_t length : documents) {
    const auto part = [&](const at::Tensor& x) {
      return x.flatten(0, 1).slice(0, begin, begin + length).unsqueeze(0);
    };
    apart.push_back(naive_attention(part(q), part(k), part(v)));
    begin += length;
  }
  const at::Tensor expected = at::cat(apart, 1).view({2, 5, 4});
  EXPECT_TRUE(at::allclose(causal_attention(q, k, v, documents), expected, 1e-12, 1e-12));
  test::expect_gradients(
      [&](const auto& in) { return causal_attention(in[0], in[1], in[2], documents); }, {q, k, v});
}

TEST(Attention, NumericGradient) {
  test::expect_gradients([](const auto& in) { return causal_attention(in[0], in[1], in[2]); },
                         {test::random_leaf({1, 3, 2, 4}, 1), test::random_leaf({1, 3, 1, 4}, 2),
                          test::random_leaf({1, 3, 1, 4}, 3)});
}

}  // namespace
}  // namespace qlora::nn
