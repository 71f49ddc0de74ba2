#pragma once
// Inputs of the LoRA products with dropout, on the host.

#include "kernels/support.h"
#include "qlora/base/narrow.h"
#include "qlora/kernels/lora_dropout.h"

#include <algorithm>

namespace qlora::kernels::test {

struct LoraDropoutCase {
  std::int64_t rows, in;
  std::vector<std::int64_t> ranks;  // of the parts
  float p;
  std::int64_t padding = 0;  // of the features, within in
};
inline const LoraDropoutCase kLoraDropoutCases[] = {
    {1, 8, {4}, 0.1f},
    {7, 64, {8}, 0.5f},
    {33, 72, {16, 16}, 0.0f},
    {130, 200, {16, 16, 16}, 0.1f},
    {65, 560, {24, 0, 4}, 0.5f, 4},
    {300, 136, {64}, 0.1f},
    {40, 96, {3, 80}, 0.1f},
    {16, 64, {0}, 0.5f},
};

inline std::string name_of(const LoraDropoutCase& c) {
  std::string name = fmt::format("{} x {}, p {}, ranks", c.rows, c.in, c.p);
  for (const std::int64_t rank : c.ranks) name += fmt::format(" {}", rank);
  return name;
}

// Matrices with more columns than are used: x has room for reduce's result behind its features.
class LoraDropoutInputs {
 public:
  LoraDropoutInputs(const LoraDropoutCase& c, DType type) : dtype(type) {
    lora.features = c.in - c.padding;
    lora.in = c.in;
    lora.count = c.ranks.size();
    lora.p = c.p;
    std::int64_t end = 0;
    for (std::size_t i = 0; i < c.ranks.size(); ++i) {
      lora.parts[i] = {end, c.ranks[i], philox_key({.seed = 7, .module = i})};
      end += round_up(c.ranks[i], kRankUnit);
    }
    lora.extra = end + kRankUnit;  // the last columns belong to no part
    x_stride = c.in + lora.extra;
    g_stride = lora.extra + 8;
    a_stride = c.in + 8;
    x = to_bytes(random_floats(1, c.rows * x_stride), dtype);
    g = padded(2, c.rows * g_stride, [&](auto i) { return i % g_stride; });
    a = padded(3, lora.extra * a_stride, [&](auto i) { return i / a_stride; });
    grad_a = random_floats(4, lora.extra * lora.features);
    for (std::int64_t row = 0; row < c.rows; ++row) {
      samples.push_back(sample_name(row / 11, 3));
      positions.push_back(static_cast<std::int32_t>(row % 11));
    }
    lora.a = {a.data(), a_stride};
    lora.samples = samples.data();
    lora.positions = positions.data();
  }

  bool is_rank(std::int64_t column) const {
    return std::any_of(lora.parts.begin(), lora.parts.begin() + lora.count, [&](const auto& part) {
      return column >= part.first_rank && column < part.first_rank + part.rank;
    });
  }

  DType dtype;
  LoraDropout lora;
  std::int64_t x_stride, g_stride, a_stride;
  std::vector<std::byte> x, g, a;  // [rows, x_stride], [rows, g_stride], [extra, a_stride]
  std::vector<float> grad_a;       // [extra, features]
  std::vector<std::int64_t> samples;
  std::vector<std::int32_t> positions;

 private:
  // Random values with zeros at the ranks that pad a part; rank_of: rank of an element.
  template <class RankOf>
  std::vector<std::byte> padded(std::uint64_t seed, std::int64_t n, const RankOf& rank_of) const {
    std::vector<float> values = random_floats(seed, n);
    for (std::int64_t i = 0; i < n; ++i) {
      const std::int64_t rank = rank_of(i);
      if (rank < lora.extra - kRankUnit && !is_rank(rank)) values[i] = 0;
    }
    return to_bytes(values, dtype);
  }
};

}  // namespace qlora::kernels::test
