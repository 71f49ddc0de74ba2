#include "qlora/kernels/augmented_weight.h"

#include "element.h"
#include "qlora/base/narrow.h"
#include "qlora/kernels/dequantize_4bit.h"

#include <algorithm>
#include <vector>

namespace qlora::kernels {

std::int64_t AugmentedGroup::padded_in() const { return round_up(in, kAugmentedUnit); }

std::int64_t AugmentedGroup::row_of(std::size_t part) const {
  std::int64_t rows = 0;
  for (std::size_t i = 0; i < part; ++i) {
    rows += round_up(parts[i].out, kAugmentedUnit);
  }
  return rows;
}

std::int64_t AugmentedGroup::padded_out() const { return row_of(count); }

std::int64_t AugmentedGroup::rank_before(std::size_t part) const {
  std::int64_t rank = 0;
  for (std::size_t i = 0; i < part; ++i) {
    rank += round_up(parts[i].rank, kRankUnit);
  }
  return rank;
}

std::int64_t AugmentedGroup::rank_sum() const { return rank_before(count); }

std::int64_t AugmentedGroup::extra() const { return round_up(rank_sum(), kAdapterUnit); }

namespace cpu {
namespace {

template <class T>
void place_weight(const AugmentedPart& part, std::int64_t in, std::int64_t stride, T* out,
                  DType dtype, Stream stream) {
  std::vector<T> decoded;
  const T* dense = static_cast<const T*>(part.dense);
  if (dense == nullptr) {
    decoded.resize(static_cast<std::size_t>(part.out * in));
    dequantize_4bit(part.type, part.packed, part.absmax, 0, part.out * in, part.block,
                    decoded.data(), dtype, stream);
    dense = decoded.data();
  }
  for (std::int64_t row = 0; row < part.out; ++row) {
    std::copy_n(dense + row * in, in, out + row * stride);
  }
}

template <class T>
void augment(const AugmentedGroup& group, T* out, DType dtype, Stream stream) {
  const std::int64_t stride = group.stride();
  std::fill_n(out, group.element_count(), T{});
  for (std::size_t i = 0; i < group.count; ++i) {
    const AugmentedPart& part = group.parts[i];
    T* rows = out + group.row_of(i) * stride;
    place_weight(part, group.in, stride, rows, dtype, stream);
    const auto* a = static_cast<const T*>(part.a);
    const auto* b = static_cast<const T*>(part.scaled_b);
    T* columns = rows + group.padded_in() + group.rank_before(i);
    for (std::int64_t row = 0; row < part.out; ++row) {
      std::copy_n(b + row * part.rank, part.rank, columns + row * stride);
    }
    T* below = out + (group.padded_out() + group.rank_before(i)) * stride;
    for (std::int64_t row = 0; row < part.rank; ++row) {
      std::copy_n(a + row * group.in, group.in, below + row * stride);
    }
  }
}

}  // namespace

void augment_weight(const AugmentedGroup& group, void* out, DType dtype, Stream stream) {
  with_element(dtype, "augment_weight", [&](auto element) {
    augment(group, static_cast<decltype(element)*>(out), dtype, stream);
  });
}

}  // namespace cpu
}  // namespace qlora::kernels
