// The fused path against the plain path, both against float64.

#include "models/fused_support.h"
#include "qlora/models/load.h"
#include "support/message.h"

#include <cmath>

namespace qlora::models::fused_test {
namespace {

constexpr std::uint64_t kSeeds = 5;

double distance(const at::Tensor& a, const at::Tensor& b) {
  return ((a - b).norm() / b.norm()).item<double>();
}

// Sums over tensors and seeds of the logarithm of each gradient's distance to float64.
struct Distances {
  double fused = 0, plain = 0;
  double count = 0;

  double ratio() const { return std::exp((fused - plain) / count); }
};

// How the same families are trained.
struct Setting {
  const char* name;
  double dropout;
  bool packed;
};
constexpr Setting kSettings[] = {{"plain", 0, false}, {"packed_with_dropout", 0.1, true}};

// One seed of one family; adds to `sums` and holds every gradient of the fused path to float64.
void compare(const Family& family, const Setting& setting, std::uint64_t seed, Distances& sums) {
  const Models models(family, seed, {.dropout = setting.dropout});
  const Batch batch(seed, setting.packed ? packed_rows() : BatchShape());
  const Result exact = run_plain(*models.reference, batch);
  const Result plain = run_plain(*models.model, batch);
  const Result fused =
      run_fused(*models.model, batch, {.choice = everywhere(fused::Recompute::None)});
  expect_near(fused, exact, fmt::format("{} {} seed {}", family.name, setting.name, seed));
  for (std::size_t i = 0; i < exact.gradients.size(); ++i) {
    const at::Tensor& gradient = exact.gradients[i].second;
    sums.plain += std::log(distance(plain.gradients[i].second, gradient));
    sums.fused += std::log(distance(fused.gradients[i].second, gradient));
    ++sums.count;
  }
}

TEST(GpuFused, RefusesAModelThatItCannotTrain) {
  QLORA_REQUIRE_GPU();
  const auto model = random_model(kFusedFamilies[0], DType::Float32, test::kGpu);
  attach(*model, DType::Float32, 1, {});
  EXPECT_EQ(test::message_of([&] {
              FusedLlama(dynamic_cast<Llama&>(*model), options_for({1, 64}, 0, {}));
            }),
            "fused path: training.bf16 is not set");
}

TEST(GpuFused, IsNearerToFloat64ThanThePlainPath) {
  QLORA_REQUIRE_GPU();
  for (const Setting& setting : kSettings) {
    for (const Family& family : kFusedFamilies) {
      Distances sums;
      for (std::uint64_t seed = 1; seed <= kSeeds; ++seed) compare(family, setting, seed, sums);
      const std::string name = fmt::format("{}_{}", family.name, setting.name);
      EXPECT_LE(sums.ratio(), 1.0) << name;
      RecordProperty(name, std::to_string(sums.ratio()));
    }
  }
}

TEST(GpuFused, RecomputedLayersGiveTheSame) {
  QLORA_REQUIRE_GPU();
  for (const Family& family : kFusedFamilies) {
    const Models models(family, 1, {.dropout = 0.1});
    const Batch batch(1, packed_rows());
    const Result exact = run_plain(*models.reference, batch);
    for (const auto& choice :
         {everywhere(fused::Recompute::Smart), everywhere(fused::Recompute::Full),
          everywhere(fused::Recompute::None, true, 50), everywhere(fused::Recompute::Smart, true),
          everywhere(fused::Recompute::Full, true, 50, /*keeps_weights=*/false)}) {
      expect_near(run_fused(*models.model, batch, {.choice = choice}), exact, family.name);
    }
  }
}

TEST(GpuFused, DeterministicModeGivesTheSameBitsHoweverItRuns) {
  QLORA_REQUIRE_GPU();
  for (const Family& family : kFusedFamilies) {
    const Models models(family, 1, {.dropout = 0.1});
    const Batch batch(1, packed_rows());
    const auto run = [&](fused::Recompute mode, bool offload, bool graphs,
                         bool keeps_weights = true) {
      return run_fused(
          *models.model, batch,
          fixed_bits({.choice = everywhere(mode, offload, 0, keeps_weights), .graphs = graphs}));
    };
    const Result first = run(fused::Recompute::None, false, true);
    expect_near(first, run_plain(*models.reference, batch), family.name);
    expect_same_bits(run(fused::Recompute::None, false, true), first, "again");
    expect_same_bits(run(fused::Recompute::None, false, false), first, "without graphs");
    expect_same_bits(run(fused::Recompute::None, true, true), first, "offloaded");
    expect_same_bits(run(fused::Recompute::Smart, false, true), first, "smart");
    expect_same_bits(run(fused::Recompute::Full, true, true), first, "full, offloaded");
    expect_same_bits(run(fused::Recompute::Full, false, true, false), first, "weights dropped");
  }
}

TEST(GpuFused, AnEmbeddingOnTheHostGivesTheSameBits) {
  QLORA_REQUIRE_GPU();
  const auto run = [](bool embedding_on_host) {
    at::manual_seed(1);
    const auto model =
        random_model(kFusedFamilies[0], DType::BFloat16, test::kGpu, embedding_on_host);
    attach(*model, DType::Float32, 1, {});
    return run_fused(*model, Batch(1), fixed_bits({.choice = everywhere(fused::Recompute::Full)}));
  };
  expect_same_bits(run(true), run(false), "host");
}

// What the default mode adds to two runs' difference is attention's backward alone.
TEST(GpuFused, TimedProductsGiveTheSameBitsOnceChosen) {
  QLORA_REQUIRE_GPU();
  const Models models(kFusedFamilies[1], 1);
  const Batch batch(1);
  const FusedOptions options{.choice = everywhere(fused::Recompute::None),
                             .deterministic_attention = true};
  const Result first = run_fused(*models.model, batch, options);
  expect_same_bits(run_fused(*models.model, batch, options), first, "again");
}

}  // namespace
}  // namespace qlora::models::fused_test
