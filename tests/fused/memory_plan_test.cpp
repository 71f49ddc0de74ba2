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
                 .extra = {64, 64, 64, 64},
                 .rank_sum = {48, 16, 32, 16}};
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
  StepShape shape = small_shape();
  shape.layer.head_norm = true;  // with memory for turned heads
  for (const Recompute first : {Recompute::None, Recompute::Smart, Recompute::Full}) {
    for (const Recompute rest : {Recompute::None, Recompute::Smart, Recompute::Full}) {
      std::vector<Recompute> modes = all(rest);
      modes.front() = first;
      for (const bool offload : {false, true}) {
        const MemoryPlan plan(shape, {modes, offload});
        expect_apart(plan.regions(), plan.bytes());
        // The placement is greedy; on these sizes it stays within a fifth of the least.
        EXPECT_LE(static_cast<double>(plan.bytes()),
                  1.2 * static_cast<double>(busiest(plan.regions())));
      }
    }
  }
}

TEST(MemoryPlan, LayersShareWhatTheyRecompute) {
  const StepShape shape = small_shape();
  std::vector<std::byte> block(
      static_cast<std::size_t>(MemoryPlan(shape, {all(Recompute::None)}).bytes()));
  const auto locate = [&](Recompute mode) {
    return MemoryPlan(shape, {all(mode)}).locate(block.data());
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

TEST(MemoryPlan, OffloadedInputsShareTwoSlots) {
  const StepShape shape = small_shape();
  const MemoryPlan plan(shape, {all(Recompute::None), true});
  std::vector<std::byte> block(static_cast<std::size_t>(plan.bytes()));
  const StepMemory memory = plan.locate(block.data());
  EXPECT_EQ(memory.layers[0].x, memory.layers[2].x);
  EXPECT_EQ(memory.layers[1].x, memory.layers[5].x);
  EXPECT_NE(memory.layers[0].x, memory.layers[1].x);
}

TEST(MemoryPlan, SharedMemoryHoldsATileOfTheMlp) {
  const StepShape shape = small_shape();
  const auto bytes_of = [](const MemoryPlan& plan, const std::string& name) {
    const auto& regions = plan.regions();
    const auto found = std::find_if(regions.begin(), regions.end(),
                                    [&](const Region& region) { return region.name == name; });
    return found == regions.end() ? 0 : found->bytes;
  };
  const MemoryPlan whole(shape, {all(Recompute::Full)});
  const MemoryPlan tiled(shape, {all(Recompute::Full), false, 64});
  EXPECT_EQ(whole.choice().mlp_rows, 256);
  EXPECT_EQ(bytes_of(tiled, "gate_up_values"), bytes_of(whole, "gate_up_values") / 4);
  EXPECT_EQ(bytes_of(tiled, "activated"), bytes_of(whole, "activated") / 4);
  expect_apart(tiled.regions(), tiled.bytes());
  // A layer that keeps everything keeps all of it.
  const MemoryPlan kept(shape, {all(Recompute::None), false, 64});
  EXPECT_EQ(bytes_of(kept, "gate_up_values 3"), bytes_of(whole, "gate_up_values"));
  std::vector<std::byte> block(static_cast<std::size_t>(kept.bytes()));
  EXPECT_TRUE(kept.locate(block.data()).layers[3].keeps_gate_up);
  EXPECT_FALSE(tiled.locate(block.data()).layers[3].keeps_gate_up);
}

TEST(MemoryPlan, WeightsMakeRoomForTheMlp) {
  const StepShape shape = small_shape();
  const MemoryPlan kept(shape, {.modes = all(Recompute::Full)});
  const MemoryPlan dropped(shape, {.modes = all(Recompute::Full), .keeps_weights = false});
  expect_apart(dropped.regions(), dropped.bytes());
  EXPECT_LT(dropped.bytes(), kept.bytes());
  std::vector<std::byte> block(static_cast<std::size_t>(kept.bytes()));
  EXPECT_FALSE(dropped.locate(block.data()).space.keeps_weights);
}

std::int64_t bytes_with(Recompute mode, bool offload) {
  return MemoryPlan(small_shape(), {all(mode), offload}).bytes();
}

TEST(PlanMemory, SpendsTheBudgetFromTheLastLayerOn) {
  const StepShape shape = small_shape();
  const std::int64_t smart = bytes_with(Recompute::Smart, false);
  const std::int64_t most = bytes_with(Recompute::None, false);
  EXPECT_EQ(plan_memory(shape, {smart}).choice().modes, all(Recompute::Smart));
  EXPECT_EQ(plan_memory(shape, {most}).choice().modes, all(Recompute::None));
  const MemoryPlan between = plan_memory(shape, {(smart + most) / 2});
  EXPECT_LE(between.bytes(), (smart + most) / 2);
  EXPECT_FALSE(between.choice().offload);
  EXPECT_EQ(between.choice().modes.front(), Recompute::Smart);
  EXPECT_EQ(between.choice().modes.back(), Recompute::None);
}

TEST(PlanMemory, OffloadsInputsBeforeItRecomputesAttention) {
  const StepShape shape = small_shape();
  const std::int64_t smart = bytes_with(Recompute::Smart, false);
  const MemoryPlan below = plan_memory(shape, {smart - 1});
  EXPECT_TRUE(below.choice().offload);
  EXPECT_NE(below.choice().modes.front(), Recompute::Full);
  EXPECT_FALSE(plan_memory(shape, {smart - 1, false}).choice().offload);
  EXPECT_TRUE(plan_memory(shape, {smart, true}).choice().offload);
  const std::int64_t least = bytes_with(Recompute::Full, true);
  EXPECT_EQ(plan_memory(shape, {least}).choice().modes, all(Recompute::Full));
}

TEST(PlanMemory, SaysWhatTheLeastWouldBe) {
  StepShape shape = small_shape();
  shape.tokens = 8192;
  const MemoryPlan least = plan_memory(shape, {1});
  EXPECT_EQ(least.choice().mlp_rows, 1024);
  EXPECT_TRUE(least.choice().offload);
  EXPECT_FALSE(least.choice().keeps_weights);
  EXPECT_EQ(plan_memory(shape, {least.bytes()}).bytes(), least.bytes());
  EXPECT_GT(plan_memory(shape, {1, false}).bytes(), least.bytes());
  const MemoryPlan fixed = plan_memory(shape, {.budget = 1, .fixed_tiles = true});
  EXPECT_EQ(fixed.choice().mlp_rows, plan_memory(shape, {fixed.bytes() * 9}).choice().mlp_rows);
}

}  // namespace
}  // namespace qlora::fused
