// Adapters of every rank on any part of a model: the fused path against float64.

#include "models/fused_support.h"
#include "qlora/models/adapters.h"

#include <fmt/format.h>

#include <array>

namespace qlora::models::fused_test {
namespace {

// Without dropout by the fastest plan, with dropout by the leanest; `family` is one for each.
// linears: how many layers get an adapter.
void expect_near_float64(const std::array<std::size_t, 2>& family, Adapters adapters,
                         std::size_t linears, const std::string& name) {
  const FusedOptions fastest{.choice = everywhere(fused::Recompute::None)};
  const FusedOptions leanest =
      fixed_bits({.choice = everywhere(fused::Recompute::Full, /*offload=*/true, /*mlp_rows=*/50,
                                       /*keeps_weights=*/false)});
  for (const bool drops : {false, true}) {
    adapters.dropout = drops ? 0.1 : 0;
    const std::string where = fmt::format("{}, dropout {}", name, adapters.dropout);
    const Models models(kFusedFamilies[family[drops ? 1 : 0]], 1, adapters);
    const Batch batch(1, drops ? packed_rows() : BatchShape());
    const Result exact = run_plain(*models.reference, batch);
    ASSERT_EQ(exact.gradients.size(), 2 * linears) << where;
    expect_near(run_fused(*models.model, batch, drops ? leanest : fastest), exact, where);
  }
}

TEST(GpuFusedAdapters, AnyPartOfTheModel) {
  QLORA_REQUIRE_GPU();
  const auto named = [](std::vector<std::string> names) { return io::ModulePattern(names); };
  constexpr std::array<std::size_t, 2> kFamilies = {1, 4};
  expect_near_float64(kFamilies, {.modules = named({"q_proj", "v_proj"})}, 2 * kLayers,
                      "q_proj and v_proj");
  expect_near_float64(kFamilies, {.modules = named({"down_proj"})}, kLayers, "down_proj");
  expect_near_float64(kFamilies, {.modules = named({"k_proj", "up_proj"})}, 2 * kLayers,
                      "k_proj and up_proj");
  expect_near_float64(kFamilies, {.layers = {1, 3}}, 2 * 7, "layers 1 and 3");
  expect_near_float64(kFamilies, {.layers = {0}}, 7, "the first layer");
  expect_near_float64(kFamilies, {.modules = named({"o_proj"}), .layers = {3}}, 1,
                      "o_proj of the last layer");
}

TEST(GpuFusedAdapters, AnyRank) {
  QLORA_REQUIRE_GPU();
  for (const std::int64_t rank : {7, 16, 32, 64}) {
    expect_near_float64({3, 3}, {.rank = rank}, 7 * kLayers, fmt::format("rank {}", rank));
  }
  expect_near_float64({3, 3},
                      {.rank = 8, .other_ranks = {{"q_proj", 24}, {"v_proj", 3}, {"up_proj", 17}}},
                      7 * kLayers, "several ranks");
}

}  // namespace
}  // namespace qlora::models::fused_test
