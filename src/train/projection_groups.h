#pragma once
// The linear layers of a decoder layer that share their input, as the fused path multiplies them.

#include "model_shapes.h"
#include "qlora/kernels/augmented_weight.h"

#include <initializer_list>
#include <string>
#include <vector>

namespace qlora::train {

struct ProjectionGroup {
  std::string name;  // "gate_up of llama-3-8b"
  kernels::AugmentedGroup group;
};

inline ProjectionGroup projection_group(const ModelShape& model, std::string_view name,
                                        std::int64_t rank, std::int64_t in,
                                        std::initializer_list<std::int64_t> outs) {
  ProjectionGroup result{.name = fmt::format("{} of {}", name, model.name), .group = {.in = in}};
  for (const std::int64_t out : outs) {
    kernels::AugmentedPart& part = result.group.parts[result.group.count++];
    part.out = out;
    part.rank = rank;
  }
  return result;
}

// Sizes alone; every linear layer has an adapter of `rank`.
inline std::vector<ProjectionGroup> projection_groups(const ModelShape& m, std::int64_t rank) {
  return {projection_group(m, "qkv", rank, m.hidden, {m.query_size(), m.key_size(), m.key_size()}),
          projection_group(m, "out", rank, m.query_size(), {m.hidden}),
          projection_group(m, "gate_up", rank, m.hidden, {m.intermediate, m.intermediate}),
          projection_group(m, "down", rank, m.intermediate, {m.hidden})};
}

}  // namespace qlora::train
