#include "qlora/kernels/lora_dropout.h"

#include "convert.h"
#include "lane_sum.h"
#include "lora_dropout_rules.h"
#include "qlora/base/narrow.h"
#include "qlora/base/parallel.h"
#include "rows.h"

#include <algorithm>
#include <vector>

namespace qlora::kernels {

std::array<DropoutRule, kMaxParts> lora_dropout_rules(const LoraDropout& lora) {
  QLORA_ASSERT(lora.features <= lora.in && lora.in % kAugmentedUnit == 0);
  QLORA_ASSERT(lora.extra % kRankUnit == 0);
  check_rows(lora.a, lora.in);
  std::array<DropoutRule, kMaxParts> rules{};
  std::int64_t end = 0;
  for (std::size_t i = 0; i < lora.count; ++i) {
    const LoraDropout::Part& part = lora.parts[i];
    QLORA_ASSERT(part.first_rank >= end && part.first_rank % kRankUnit == 0 && part.rank >= 0);
    end = part.first_rank + round_up(part.rank, kRankUnit);
    rules[i] = dropout_rule(part.key, lora.p);
  }
  QLORA_ASSERT(end <= lora.extra);
  return rules;
}

void check_tensor_core_rows(DType dtype, std::initializer_list<ConstRows> matrices) {
  QLORA_ASSERT(dtype == DType::Float16 || dtype == DType::BFloat16);
  QLORA_ASSERT(rows_are_aligned<Float16>(kAugmentedUnit, matrices));
}

namespace cpu {
namespace {

// Columns of dA that one thread sums at a time; a multiple of kOctet.
constexpr std::int64_t kColumns = 64;

// Part's rows of A as float32 [rank, in].
std::vector<float> rows_of_a(const LoraDropout& lora, std::size_t part, DType dtype) {
  const auto& [first_rank, rank, key] = lora.parts[part];
  std::vector<float> a(static_cast<std::size_t>(rank * lora.in));
  for (std::int64_t i = 0; i < rank; ++i) {
    load_floats(dtype, lora.a.data, (first_rank + i) * lora.a.stride, lora.in, &a[i * lora.in]);
  }
  return a;
}

// values = drop(x[row, first .. first + n)), rounded to T.
template <class T>
void load_dropped(const LoraDropout& lora, const DropoutRule& rule, ConstRows x, std::int64_t row,
                  std::int64_t first, std::int64_t n, float* values) {
  const T* source = row_of<T>(x, row) + first;
  for (std::int64_t c = 0; c < n; ++c) values[c] = to_float(source[c]);
  drop_run(values, n, first, lora.samples[row], lora.positions[row], rule);
  for (std::int64_t c = 0; c < n; ++c) values[c] = to_float(from_float<T>(values[c]));
}

// sums[0 .. n) += factor * values[0 .. n)
void add_scaled(float factor, const float* values, std::int64_t n, float* sums) {
  for (std::int64_t c = 0; c < n; ++c) sums[c] += factor * values[c];
}

template <class T>
void reduce(const LoraDropout& lora, const DropoutRule& rule, std::size_t part, ConstRows x,
            DType dtype, std::int64_t rows, Rows out) {
  const std::vector<float> a = rows_of_a(lora, part, dtype);
  const auto& [first_rank, rank, key] = lora.parts[part];
  parallel_for(rows, row_grain(lora.in), [&](std::int64_t first, std::int64_t last) {
    std::vector<float> values(static_cast<std::size_t>(lora.in));
    for (std::int64_t row = first; row < last; ++row) {
      load_dropped<T>(lora, rule, x, row, 0, lora.in, values.data());
      for (std::int64_t i = 0; i < rank; ++i) {
        const double sum =
            lane_sum(lora.in, [&](auto c) { return double{values[c]} * a[i * lora.in + c]; });
        row_of<T>(out, row)[first_rank + i] = from_float<T>(static_cast<float>(sum));
      }
    }
  });
}

template <class T>
void accumulate_a(const LoraDropout& lora, const DropoutRule& rule, std::size_t part, ConstRows g,
                  ConstRows x, std::int64_t rows, float* grad_a) {
  const auto& [first_rank, rank, key] = lora.parts[part];
  parallel_for(div_up(lora.features, kColumns), 1, [&](std::int64_t begin, std::int64_t end) {
    std::array<float, kColumns> values;
    for (std::int64_t first = begin * kColumns; first < std::min(end * kColumns, lora.features);
         first += kColumns) {
      const std::int64_t n = std::min(kColumns, lora.features - first);
      std::vector<float> sums(static_cast<std::size_t>(rank * kColumns));
      for (std::int64_t row = 0; row < rows; ++row) {
        load_dropped<T>(lora, rule, x, row, first, n, values.data());
        const T* factors = row_of<T>(g, row) + first_rank;
        for (std::int64_t i = 0; i < rank; ++i) {
          add_scaled(to_float(factors[i]), values.data(), n, &sums[i * kColumns]);
        }
      }
      for (std::int64_t i = 0; i < rank; ++i) {
        add_scaled(1, &sums[i * kColumns], n, grad_a + (first_rank + i) * lora.features + first);
      }
    }
  });
}

}  // namespace

void lora_reduce(const LoraDropout& lora, ConstRows x, DType dtype, std::int64_t rows, Rows out,
                 Stream) {
  const auto rules = lora_dropout_rules(lora);
  check_rows(x, lora.in);
  check_rows(out, lora.extra);
  with_element(dtype, "lora_reduce", [&](auto element) {
    using T = decltype(element);
    for (std::int64_t row = 0; row < rows; ++row) {
      std::fill_n(row_of<T>(out, row), lora.extra, T{});
    }
    for (std::size_t i = 0; i < lora.count; ++i) {
      reduce<T>(lora, rules[i], i, x, dtype, rows, out);
    }
  });
}

void lora_expand(const LoraDropout& lora, ConstRows g, DType dtype, std::int64_t rows, Rows dx,
                 Stream) {
  const auto rules = lora_dropout_rules(lora);
  check_rows(g, lora.extra);
  check_rows(dx, lora.in);
  std::array<std::vector<float>, kMaxParts> a;
  for (std::size_t i = 0; i < lora.count; ++i) a[i] = rows_of_a(lora, i, dtype);
  parallel_for(rows, row_grain(lora.in), [&](std::int64_t first, std::int64_t last) {
    std::vector<float> factors(static_cast<std::size_t>(lora.extra));
    for (std::int64_t row = first; row < last; ++row) {
      load_floats(dtype, g.data, row * g.stride, lora.extra, factors.data());
      std::vector<float> sum(static_cast<std::size_t>(lora.in));
      for (std::size_t i = 0; i < lora.count; ++i) {
        const auto& [first_rank, rank, key] = lora.parts[i];
        std::vector<float> own(sum.size());
        for (std::int64_t r = 0; r < rank; ++r) {
          add_scaled(factors[first_rank + r], &a[i][r * lora.in], lora.in, own.data());
        }
        drop_run(own.data(), lora.in, 0, lora.samples[row], lora.positions[row], rules[i]);
        add_scaled(1, own.data(), lora.in, sum.data());
      }
      store_floats(dtype, sum.data(), lora.in, dx.data, row * dx.stride);
    }
  });
}

void lora_accumulate_a(const LoraDropout& lora, ConstRows g, ConstRows x, DType dtype,
                       std::int64_t rows, float* grad_a, Stream) {
  const auto rules = lora_dropout_rules(lora);
  check_rows(g, lora.extra);
  check_rows(x, lora.in);
  with_element(dtype, "lora_accumulate_a", [&](auto element) {
    for (std::size_t i = 0; i < lora.count; ++i) {
      accumulate_a<decltype(element)>(lora, rules[i], i, g, x, rows, grad_a);
    }
  });
}

}  // namespace cpu
}  // namespace qlora::kernels
