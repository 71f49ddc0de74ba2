#include "qlora/fused/memory_plan.h"

#include "qlora/base/random.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace qlora::fused {
namespace {

// Two regions that are ever alive together share no byte.
void expect_apart(const std::vector<Region>& regions, std::int64_t total) {
  for (std::size_t i = 0; i < regions.size(); ++i) {
    const Region& a = regions[i];
    EXPECT_EQ(a.offset % 256, 0) << a.name;
    EXPECT_LE(a.offset + a.bytes, total) << a.name;
    for (std::size_t j = 0; j < i; ++j) {
      const Region& b = regions[j];
      const bool apart = a.offset + a.bytes <= b.offset || b.offset + b.bytes <= a.offset;
      EXPECT_TRUE(apart || (a.lifetime & b.lifetime) == 0) << a.name << " and " << b.name;
    }
  }
}

// The bytes of the busiest moment: no plan can be smaller.
std::int64_t busiest(const std::vector<Region>& regions) {
  std::int64_t most = 0;
  for (unsigned moment = 0; moment < kMoments; ++moment) {
    std::int64_t sum = 0;
    for (const Region& region : regions) {
      if ((region.lifetime >> moment & 1) != 0) sum += region.bytes;
    }
    most = std::max(most, sum);
  }
  return most;
}

StepShape small_shape() {
  StepShape shape;
  shape.layer = {.hidden = 64,
                 .query_heads = 4,
                 .key_heads = 2,
                 .head_dim = 16,
                 .intermediate = 172,
                 .extra = {64, 64, 64, 64}};
  shape.layers = 6;
  shape.vocabulary = 1000;
  shape.tokens = 256;
  shape.loss_rows = 64;
  shape.attention_workspace = 100000;
  shape.weight_elements = {20000, 8000, 50000, 30000};
  return shape;
}

std::vector<Recompute> all(Recompute mode) { return std::vector<Recompute>(6, mode); }

TEST(Place, KeepsRegionsThatMeetApart) {
  const RandomStream stream(1, "regions");
  for (std::uint64_t round = 0; round < 200; ++round) {
    std::vector<Region> regions;
    for (std::uint64_t i = 0; i < 12; ++i) {
      const std::uint64_t draw = stream.bits(round * 12 + i);
      regions.push_back({.name = std::to_string(i),
                         .bytes = static_cast<std::int64_t>(draw >> 20 & 0xffff),
                         .lifetime = static_cast<Lifetime>(draw & kAlways)});
    }
    const std::int64_t total = place(regions);
    expect_apart(regions, total);
    EXPECT_GE(total, busiest(regions));
  }
}

TEST(Place, SharesMemoryOverTime) {
  std::vector<Region> regions{{"early", 1000, at(kForwardQkv)}, {"late", 900, at(kLoss)}};
  EXPECT_EQ(place(regions), 1024);
  regions[1].lifetime |= at(kForwardQkv);
  EXPECT_EQ(place(regions), 2048);
}

TEST(MemoryPlan, EveryMixOfModesIsSound) {
  const StepShape shape = small_shape();
  for (const Recompute first : {Recompute::None, Recompute::Smart, Recompute::Full}) {
    for (const Recompute rest : {Recompute::None, Recompute::Smart, Recompute::Full}) {
      std::vector<Recompute> modes = all(rest);
      modes.front() = first;
      const MemoryPlan plan(shape, modes);
      expect_apart(plan.regions(), plan.bytes());
      // The placement is greedy; on these sizes it stays within a fifth of the least.
      EXPECT_LE(static_cast<double>(plan.bytes()),
                1.2 * static_cast<double>(busiest(plan.regions())));
    }
  }
}

TEST(MemoryPlan, LayersShareWhatTheyRecompute) {
  const StepShape shape = small_shape();
  std::vector<std::byte> block(
      static_cast<std::size_t>(MemoryPlan(shape, all(Recompute::None)).bytes()));
  const auto locate = [&](Recompute mode) {
    return MemoryPlan(shape, all(mode)).locate(block.data());
  };
  const StepMemory none = locate(Recompute::None), full = locate(Recompute::Full);
  EXPECT_NE(none.layers[0].gate_up, none.layers[1].gate_up);
  EXPECT_EQ(full.layers[0].gate_up, full.layers[1].gate_up);
  EXPECT_EQ(full.layers[0].attended, full.layers[1].attended);
  EXPECT_NE(full.layers[0].x, full.layers[1].x);
  const StepMemory smart = locate(Recompute::Smart);
  EXPECT_NE(smart.layers[0].attended, smart.layers[1].attended);
  EXPECT_EQ(smart.layers[0].qkv, smart.layers[1].qkv);
  // Recompute and backward share the dequantized weights, so they lie apart.
  EXPECT_NE(full.space.weights[kQkv], full.space.weights[kGateUp]);
}

TEST(PlanMemory, SpendsTheBudgetFromTheLastLayerOn) {
  const StepShape shape = small_shape();
  const std::int64_t least = MemoryPlan(shape, all(Recompute::Full)).bytes();
  const std::int64_t smart = MemoryPlan(shape, all(Recompute::Smart)).bytes();
  const std::int64_t most = MemoryPlan(shape, all(Recompute::None)).bytes();
  EXPECT_FALSE(plan_memory(shape, least - 1));
  EXPECT_EQ(plan_memory(shape, least)->modes(), all(Recompute::Full));
  EXPECT_EQ(plan_memory(shape, smart)->modes(), all(Recompute::Smart));
  EXPECT_EQ(plan_memory(shape, most)->modes(), all(Recompute::None));
  const auto between = plan_memory(shape, (smart + most) / 2);
  EXPECT_LE(between->bytes(), (smart + most) / 2);
  EXPECT_EQ(between->modes().front(), Recompute::Smart);
  EXPECT_EQ(between->modes().back(), Recompute::None);
}

}  // namespace
}  // namespace qlora::fused
