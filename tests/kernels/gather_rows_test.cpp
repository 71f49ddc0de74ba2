#include "qlora/kernels/gather_rows.h"

#include "kernels/matrix.h"

#include <fmt/format.h>

#include <algorithm>

namespace qlora::kernels {
namespace {

using test::Matrix;

const std::vector<std::int32_t> kIndices = {3, -1, 0, 6, -100, 2};
constexpr std::int64_t kSourceRows = 7;

// check(7 rows, rows for each index, where) for several widths and pitches.
template <class Check>
void for_gather_cases(const Check& check) {
  for (const std::int64_t cols : {1, 8, 51, 640}) {
    for (const DType dtype : test::kFloatTypes) {
      const auto rows = static_cast<std::int64_t>(kIndices.size());
      Matrix many(dtype, kSourceRows, cols, {cols + 3, 4},
                  test::random_floats(1, kSourceRows * cols));
      Matrix few(dtype, rows, cols, {cols + 8}, test::random_floats(2, rows * cols));
      check(many, few, fmt::format("{} {} columns", name_of(dtype), cols));
    }
  }
}

TEST(GatherRows, TakesRowsByIndexAndZerosForNegativeOnes) {
  for_gather_cases([](Matrix& many, Matrix& few, const std::string& where) {
    cpu::gather_rows(many, kIndices.data(), few.dtype(), few.rows(), few.cols(), few, nullptr);
    const auto expected = [&](auto r, auto c) {
      return kIndices[r] < 0 ? 0.0f : many.at(kIndices[r], c);
    };
    test::expect_close(few, expected, {0, 0}, where);
  });
}

TEST(ScatterRows, PutsRowsByIndexAndLeavesTheOthers) {
  for_gather_cases([](Matrix& many, Matrix& few, const std::string& where) {
    Matrix before = many;
    cpu::scatter_rows(few, kIndices.data(), few.dtype(), few.rows(), few.cols(), many, nullptr);
    const auto expected = [&](auto r, auto c) {
      const auto found = std::ranges::find(kIndices, r);
      return found == kIndices.end() ? before.at(r, c) : few.at(found - kIndices.begin(), c);
    };
    test::expect_close(many, expected, {0, 0}, where);
  });
}

}  // namespace
}  // namespace qlora::kernels
