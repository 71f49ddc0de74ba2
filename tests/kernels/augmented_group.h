#pragma once
// A group of quantized layers with adapters, on the host, for the tests of augment_weight.

#include "kernels/support.h"
#include "qlora/base/narrow.h"
#include "qlora/kernels/augmented_weight.h"
#include "qlora/kernels/dynamic_maps.h"
#include "qlora/kernels/quantize_4bit.h"

namespace qlora::kernels::test {

struct HostPart {
  std::vector<std::uint8_t> packed, codes;
  std::vector<float> absmax, nested;
  std::vector<std::byte> dense, a, b;
  float offset = 0;
};

struct PartSpec {
  std::int64_t out;
  std::int64_t rank;
  bool dense = false;
};

class HostGroup {
 public:
  HostGroup(std::int64_t in, std::vector<PartSpec> specs, DType dtype, bool nested) {
    group.in = in;
    group.count = specs.size();
    parts.resize(specs.size());
    for (std::size_t i = 0; i < specs.size(); ++i) {
      const auto& [out, rank, dense] = specs[i];
      const std::int64_t n = out * in;
      HostPart& p = parts[i];
      const std::vector<float> values = random_floats(10 + i, n);
      AugmentedPart& view = group.parts[i];
      view.out = out;
      view.rank = rank;
      p.a = to_bytes(random_floats(20 + i, rank * in), dtype);
      p.b = to_bytes(random_floats(30 + i, out * rank), dtype);
      view.a = p.a.data();
      view.scaled_b = p.b.data();
      if (dense) {
        p.dense = to_bytes(values, dtype);
        view.dense = p.dense.data();
        continue;
      }
      p.packed.resize(div_up<std::int64_t>(n, 2));
      p.absmax.resize(div_up(n, kDefaultBlock));
      cpu::quantize_4bit(QuantType::NF4, values.data(), DType::Float32, n, kDefaultBlock,
                         p.packed.data(), p.absmax.data(), nullptr);
      view.packed = p.packed.data();
      view.absmax = {.values = p.absmax.data()};
      if (!nested) continue;
      const auto blocks = static_cast<std::int64_t>(p.absmax.size());
      p.codes.resize(p.absmax.size());
      p.nested.resize(div_up(blocks, kNestedBlock));
      cpu::quantize_absmax(p.absmax.data(), blocks, p.codes.data(), p.nested.data(), &p.offset,
                           nullptr);
      view.absmax = {.codes = p.codes.data(),
                     .nested_values = p.nested.data(),
                     .nested_map = kSignedMap.values,
                     .offset = p.offset};
    }
  }

  AugmentedGroup group;
  std::vector<HostPart> parts;
};

// Groups of an EXAONE-like layer, of stories260K's odd sizes, of a partly adapted model, of none.
struct GroupCase {
  const char* name;
  std::int64_t in;
  std::vector<PartSpec> parts;
};
inline const GroupCase kGroupCases[] = {
    {"qkv", 256, {{320, 16}, {80, 16}, {80, 16}}},
    {"odd in", 172, {{64, 8}}},
    {"odd out", 64, {{172, 4}, {172, 4}}},
    {"half adapted", 128, {{128, 8}, {64, 0}, {64, 3}}},
    {"bare", 64, {{24, 0}, {8, 0}}},
    {"dense", 64, {{24, 8, true}, {8, 2, false}}},
};

}  // namespace qlora::kernels::test
