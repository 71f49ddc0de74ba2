#include "qlora/kernels/cross_entropy.h"

#include "kernels/matrix.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace qlora::kernels {
namespace {

using test::Matrix;
using test::Pitch;

double loss_reference(const std::vector<double>& logits, std::int64_t label) {
  const double largest = std::ranges::max(logits);
  double sum = 0;
  for (const double logit : logits) sum += std::exp(logit - largest);
  return largest + std::log(sum) - logits[label];
}

struct LossCase {
  std::int64_t vocabulary;
  Pitch pitch;
};

const LossCase kLossCases[] = {{1, {1}}, {8, {8}}, {51, {56, 4}}, {1000, {1000}}, {20001, {20008}}};
constexpr float kLossScale = 0.25f;

// Five rows; the second is not learnt; labels at both ends.
struct LossInputs {
  Matrix logits;
  std::vector<std::int32_t> labels;
  std::vector<float> losses;

  LossInputs(const LossCase& shape, DType dtype)
      : logits(dtype, 5, shape.vocabulary, shape.pitch,
               test::random_floats(1, 5 * shape.vocabulary, 3)),
        labels{0, kIgnoredLabel, static_cast<int>(shape.vocabulary) - 1,
               static_cast<int>(shape.vocabulary) / 2, 0},
        losses(5, 99.0f) {}

  void run() {
    cpu::cross_entropy(logits, logits.dtype(), 5, logits.cols(), labels.data(), &kLossScale,
                       losses.data(), nullptr);
  }
  std::vector<double> row(std::int64_t r) const {
    Matrix copy = logits;
    std::vector<double> values;
    for (std::int64_t c = 0; c < copy.cols(); ++c) values.push_back(copy.at(r, c));
    return values;
  }
};

template <class Check>
void for_loss_cases(const Check& check) {
  for (const LossCase& shape : kLossCases) {
    for (const DType dtype : test::kFloatTypes) {
      LossInputs in(shape, dtype);
      check(in, fmt::format("{} vocabulary {}", name_of(dtype), shape.vocabulary));
    }
  }
}

TEST(CrossEntropy, GivesTheLossOfEveryRow) {
  for_loss_cases([](LossInputs& in, const std::string& where) {
    std::vector<double> expected;
    for (std::int64_t r = 0; r < 5; ++r) {
      const bool ignored = in.labels[r] == kIgnoredLabel;
      expected.push_back(ignored ? 0 : loss_reference(in.row(r), in.labels[r]));
    }
    in.run();
    // The largest less the label's, the sum's logarithm and their sum: a rounding each.
    for (int r = 0; r < 5; ++r) {
      EXPECT_NEAR(in.losses[r], expected[r], 2e-7 * (1 + expected[r])) << where;
    }
  });
}

TEST(CrossEntropy, TheGradientEqualsTheNumericOne) {
  for_loss_cases([](LossInputs& in, const std::string& where) {
    if (in.logits.cols() > 100) return;  // quadratic in the vocabulary
    std::vector<std::vector<double>> gradients;
    for (std::int64_t r = 0; r < 5; ++r) {
      std::vector<double> logits = in.row(r);
      auto& gradient = gradients.emplace_back(logits.size(), 0.0);
      if (in.labels[r] == kIgnoredLabel) continue;
      for (std::size_t c = 0; c < logits.size(); ++c) {
        gradient[c] = kLossScale * test::numeric_gradient(logits[c], [&] {
                        return loss_reference(logits, in.labels[r]);
                      });
      }
    }
    in.run();
    // Central differences of losses up to about 20 err by 1e-9; the rest is float32.
    test::expect_close(
        in.logits, [&](auto r, auto c) { return gradients[r][c]; }, {0.5, 1e-6}, where);
  });
}

TEST(CrossEntropy, TheGradientOfWideRowsIsSoftmaxLessTheLabel) {
  for_loss_cases([](LossInputs& in, const std::string& where) {
    std::vector<std::vector<double>> gradients;
    for (std::int64_t r = 0; r < 5; ++r) {
      std::vector<double> row = in.row(r);
      const std::int64_t label = in.labels[r];
      const double normalizer =
          label == kIgnoredLabel ? 0 : loss_reference(row, label) + row[label];
      for (double& value : row) {
        value = label == kIgnoredLabel ? 0 : std::exp(value - normalizer) * kLossScale;
      }
      if (label != kIgnoredLabel) row[label] -= kLossScale;
      gradients.push_back(row);
    }
    in.run();
    test::expect_close(
        in.logits, [&](auto r, auto c) { return gradients[r][c]; }, {0.5, 1e-6}, where);
  });
}

TEST(CrossEntropy, LargeAndInfiniteLogitsAreFine) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  std::vector<float> logits = {1e4f, -1e4f,      0, -kInfinity, 1e4f, 0,
                               0,    -kInfinity, 1, kInfinity,  0,    NAN};
  const std::vector<std::int32_t> labels = {0, 1, 0, 1};
  std::vector<float> losses(4);
  const float scale = 1;
  cpu::cross_entropy({logits.data(), 3}, DType::Float32, 4, 3, labels.data(), &scale, losses.data(),
                     nullptr);
  EXPECT_EQ(losses[0], 0);
  EXPECT_EQ(losses[1], 0);
  EXPECT_NEAR(losses[2], std::log(1 + std::exp(1.0)), 1e-6);
  EXPECT_TRUE(std::isnan(losses[3]));
  EXPECT_EQ(logits[7], 0);
  EXPECT_TRUE(std::isnan(logits[9]));
}

TEST(CrossEntropy, TheSumOfLossesAddsToWhatIsThere) {
  const std::vector<float> losses = test::random_floats(3, 1000);
  double sum = 0.5;
  cpu::sum_losses(losses.data(), 1000, &sum, nullptr);
  EXPECT_NEAR(sum, std::accumulate(losses.begin(), losses.end(), 0.5), 1e-12);
  cpu::sum_losses(nullptr, 0, &sum, nullptr);
  EXPECT_NEAR(sum, std::accumulate(losses.begin(), losses.end(), 0.5), 1e-12);
}

}  // namespace
}  // namespace qlora::kernels
