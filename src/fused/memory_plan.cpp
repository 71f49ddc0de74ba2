#include "qlora/fused/memory_plan.h"

#include "qlora/base/narrow.h"
#include "qlora/fused/input_offload.h"

#include <algorithm>
#include <map>
#include <numeric>

namespace qlora::fused {
namespace {

constexpr std::int64_t kAlignment = 256;
// Tokens through the MLP at a time whose products run at full speed.
constexpr std::int64_t kMlpRows = 4096;

std::int64_t aligned(std::int64_t bytes) { return round_up(bytes, kAlignment); }

}  // namespace

std::int64_t place(std::vector<Region>& regions) {
  // Largest first; each at the lowest offset that keeps clear of those it lives with.
  std::vector<std::size_t> order(regions.size());
  std::iota(order.begin(), order.end(), 0u);
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return regions[a].bytes > regions[b].bytes;
  });
  std::int64_t total = 0;
  std::vector<const Region*> placed;  // by offset
  for (const std::size_t i : order) {
    Region& region = regions[i];
    region.offset = 0;
    for (const Region* other : placed) {
      const bool meet = (other->lifetime & region.lifetime) != 0;
      const bool overlap = region.offset < other->offset + aligned(other->bytes) &&
                           other->offset < region.offset + aligned(region.bytes);
      if (meet && overlap) region.offset = other->offset + aligned(other->bytes);
    }
    const auto after = [&](const Region* other) { return other->offset > region.offset; };
    placed.insert(std::find_if(placed.begin(), placed.end(), after), &region);
    total = std::max(total, region.offset + aligned(region.bytes));
  }
  return total;
}

// Names regions by what they hold; a layer's own carry its number.
struct MemoryPlan::Builder {
  const StepShape& shape;
  std::int64_t mlp_rows;
  std::vector<Region> regions;

  std::int64_t rows(std::int64_t stride) const { return rows(stride, shape.tokens); }
  std::int64_t rows(std::int64_t stride, std::int64_t tokens) const {
    return tokens * stride * static_cast<std::int64_t>(size_of(shape.layer.dtype));
  }
  std::int64_t floats(std::int64_t count) const { return count * 4; }
  void add(std::string name, std::int64_t bytes, Lifetime lifetime) {
    regions.push_back({std::move(name), bytes, lifetime});
  }

  void add_inputs(bool offload);
  void add_layer(std::size_t index, Recompute mode);
  void add_shared(bool recomputes, bool attends_again);
  void add_weights(bool recomputes, bool keeps);
  void add_loss();
};

namespace {

std::string of_layer(const char* name, std::size_t index) {
  return fmt::format("{} {}", name, index);
}

constexpr const char* kGroupNames[kGroups] = {"qkv", "out", "gate_up", "down"};

}  // namespace

void MemoryPlan::Builder::add_inputs(bool offload) {
  const auto layers = static_cast<std::size_t>(shape.layers);
  const std::size_t count = offload ? std::min(layers, kInputSlots) : layers;
  for (std::size_t i = 0; i < count; ++i) add(of_layer("x", i), rows(shape.layer.hidden), kAlways);
}

void MemoryPlan::Builder::add_layer(std::size_t index, Recompute mode) {
  const LayerShape& layer = shape.layer;
  const auto keep = [&](const char* name, std::int64_t bytes) {
    add(of_layer(name, index), bytes, kAlways);
  };
  keep("input_rstd", floats(shape.tokens));
  keep("middle_rstd", floats(shape.tokens));
  for (std::size_t group = 0; group < kGroups; ++group) {
    keep(kGroupNames[group], rows(layer.rank_sum[group]));
  }
  if (mode != Recompute::Full) {
    keep("attended", rows(layer.attended_stride()));
    keep("statistics", floats(shape.tokens * layer.query_heads));
  }
  if (mode == Recompute::None) {
    keep("qkv_heads", rows(layer.qkv_stride()));
    keep("middle", rows(layer.hidden));
    keep("gate_up_values", rows(layer.gate_up_stride()));
  }
}

// What a recomputing layer shares with the others. The contents of the last layer's forward pass
// are still there when its backward pass begins.
void MemoryPlan::Builder::add_shared(bool recomputes, bool attends_again) {
  const LayerShape& layer = shape.layer;
  if (attends_again) {
    add("attended", rows(layer.attended_stride()), during(kForwardAttention, kBackAttention));
    add("statistics", floats(shape.tokens * layer.query_heads),
        during(kForwardAttention, kBackAttention));
  }
  if (recomputes) {
    add("qkv_heads", rows(layer.qkv_stride()), during(kForwardQkv, kBackAttention));
    add("middle", rows(layer.hidden), during(kForwardOut, kBackGateUp));
    add("gate_up_values", rows(layer.gate_up_stride(), mlp_rows),
        during(kForwardGateUp, kBackGateUp));
  }
  add("last", rows(layer.hidden), during(kForwardQkv, kLoss));
  add("gradient", rows(layer.gradient_stride()), during(kLoss, kBackQkv));
  add("normed", rows(layer.normed_stride()),
      at(kForwardQkv) | at(kForwardGateUp) | at(kAgainQkv) | at(kAgainGateUp) | at(kBackGateUp) |
          at(kBackQkv));
  add("activated", rows(layer.activated_stride(), mlp_rows), at(kForwardDown) | at(kBackDown));
  add("d_attended", rows(layer.query_size()), during(kBackOut, kBackAttention));
  add("d_qkv", rows(layer.qkv_stride()), during(kBackAttention, kBackQkv));
  add("turned", layer.head_norm ? rows(layer.turned_stride()) : 0,
      at(kForwardQkv) | at(kForwardAttention) | during(kAgainQkv, kBackAttention));
  add("attention_workspace", shape.attention_workspace,
      at(kForwardAttention) | at(kAgainAttention) | at(kBackAttention));
}

void MemoryPlan::Builder::add_weights(bool recomputes, bool keeps) {
  // Both of the MLP's serve all its tiles.
  const Lifetime mlp = during(kForwardGateUp, kForwardDown) | during(kAgainGateUp, kBackGateUp);
  Lifetime lifetimes[kGroups] = {at(kForwardQkv) | at(kBackQkv), at(kForwardOut) | at(kBackOut),
                                 mlp, mlp};
  if (recomputes) {
    // Dequantized once for recompute and backward together, or for each.
    lifetimes[kQkv] |= keeps ? during(kAgainQkv, kBackQkv) : at(kAgainQkv);
    lifetimes[kOut] |= keeps ? during(kAgainOut, kBackOut) : at(kAgainOut);
  }
  for (std::size_t group = 0; group < kGroups; ++group) {
    add(fmt::format("{} weight", kGroupNames[group]),
        shape.weight_elements[group] * static_cast<std::int64_t>(size_of(shape.layer.dtype)),
        lifetimes[group]);
  }
}

void MemoryPlan::Builder::add_loss() {
  const auto element = static_cast<std::int64_t>(size_of(shape.layer.dtype));
  add("loss rows", shape.loss_rows * shape.layer.hidden * element, at(kLoss));
  add("loss normed", shape.loss_rows * shape.layer.hidden * element, at(kLoss));
  add("loss rstd", floats(shape.loss_rows), at(kLoss));
  add("logits", shape.loss_rows * shape.vocabulary * element, at(kLoss));
  add("losses", floats(shape.loss_rows), at(kLoss));
}

MemoryPlan::MemoryPlan(const StepShape& shape, MemoryChoice choice)
    : shape_(shape), choice_(std::move(choice)) {
  QLORA_ASSERT(static_cast<std::int64_t>(choice_.modes.size()) == shape.layers);
  if (choice_.mlp_rows == 0) choice_.mlp_rows = shape.tokens;
  choice_.mlp_rows = std::min(choice_.mlp_rows, shape.tokens);
  const std::vector<Recompute>& modes = choice_.modes;
  Builder builder{shape_, choice_.mlp_rows, {}};
  builder.add_inputs(choice_.offload);
  for (std::size_t i = 0; i < modes.size(); ++i) builder.add_layer(i, modes[i]);
  const auto any = [&](auto... wanted) {
    return std::any_of(modes.begin(), modes.end(),
                       [&](Recompute mode) { return ((mode == wanted) || ...); });
  };
  const bool recomputes = any(Recompute::Smart, Recompute::Full);
  builder.add_shared(recomputes, any(Recompute::Full));
  builder.add_weights(recomputes, choice_.keeps_weights);
  builder.add_loss();
  regions_ = std::move(builder.regions);
  bytes_ = place(regions_);
}

StepMemory MemoryPlan::locate(void* block) const {
  std::map<std::string, void*> found;
  for (const Region& region : regions_) {
    found[region.name] = static_cast<std::byte*>(block) + region.offset;
  }
  // A layer's own memory, or what it shares.
  const auto own = [&](const char* name, std::size_t layer) {
    const auto mine = found.find(of_layer(name, layer));
    return mine != found.end() ? mine->second : found.at(name);
  };
  StepMemory memory;
  for (std::size_t i = 0; i < choice_.modes.size(); ++i) {
    Activations a{.x = own("x", choice_.offload ? i % kInputSlots : i),
                  .input_rstd = static_cast<float*>(own("input_rstd", i)),
                  .qkv = own("qkv_heads", i),
                  .attended = own("attended", i),
                  .statistics = static_cast<float*>(own("statistics", i)),
                  .middle = own("middle", i),
                  .middle_rstd = static_cast<float*>(own("middle_rstd", i)),
                  .gate_up = own("gate_up_values", i),
                  .keeps_gate_up = choice_.modes[i] == Recompute::None};
    for (std::size_t group = 0; group < kGroups; ++group) {
      a.reduced[group] = own(kGroupNames[group], i);
    }
    memory.layers.push_back(a);
  }
  for (std::size_t group = 0; group < kGroups; ++group) {
    memory.space.weights[group] = found.at(fmt::format("{} weight", kGroupNames[group]));
  }
  memory.space.mlp_rows = choice_.mlp_rows;
  memory.space.keeps_weights = choice_.keeps_weights;
  memory.space.normed = found.at("normed");
  memory.space.activated = found.at("activated");
  memory.space.d_attended = found.at("d_attended");
  memory.space.d_qkv = found.at("d_qkv");
  memory.space.turned = found.at("turned");
  memory.last = found.at("last");
  memory.gradient = found.at("gradient");
  memory.space.attention = found.at("attention_workspace");
  memory.loss = {.rows = found.at("loss rows"),
                 .normed = found.at("loss normed"),
                 .rstd = static_cast<float*>(found.at("loss rstd")),
                 .logits = found.at("logits"),
                 .losses = static_cast<float*>(found.at("losses"))};
  return memory;
}

MemoryPlan plan_memory(const StepShape& shape, const PlanLimits& limits) {
  // From the fastest on. Of what is recomputed, attention costs the most time for its bytes, so
  // that every layer keeps it before any keeps the rest; copies of inputs cost next to nothing
  // where the device computes meanwhile; to dequantize attention's weights once more costs some
  // hundredths; products of fewer rows than kMlpRows run more slowly.
  struct Range {
    Recompute most, least;
    bool offload;
    bool keeps_weights = true;
    std::int64_t mlp_rows = kMlpRows;
  };
  constexpr Range kRanges[] = {{Recompute::None, Recompute::Smart, false},
                               {Recompute::None, Recompute::Smart, true},
                               {Recompute::Smart, Recompute::Full, false},
                               {Recompute::Smart, Recompute::Full, true},
                               {Recompute::Full, Recompute::Full, false, false},
                               {Recompute::Full, Recompute::Full, true, false},
                               {Recompute::Full, Recompute::Full, false, false, kMlpRows / 4},
                               {Recompute::Full, Recompute::Full, true, false, kMlpRows / 4}};
  const auto layers = static_cast<std::size_t>(shape.layers);
  std::optional<MemoryPlan> plan;
  for (const Range& range : kRanges) {
    if (range.offload != limits.offload.value_or(range.offload)) continue;
    if (limits.fixed_tiles && range.mlp_rows != kMlpRows) continue;
    for (std::size_t lean = 0; lean <= layers; ++lean) {
      std::vector<Recompute> modes(layers, range.most);
      std::fill_n(modes.begin(), lean, range.least);
      plan.emplace(shape, MemoryChoice{std::move(modes), range.offload, range.mlp_rows,
                                       range.keeps_weights});
      if (plan->bytes() <= limits.budget) return *plan;
    }
  }
  return *plan;
}

}  // namespace qlora::fused
