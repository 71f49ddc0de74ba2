#include "data/length_groups.h"

#include "qlora/base/json.h"
#include "support/test_data.h"

#include <gtest/gtest.h>

namespace qlora::data {
namespace {

// tools/dev/goldens/batches.py: transformers' order for the same permutation.
TEST(LengthGroups, AreThoseOfTransformers) {
  const Json golden = read_json(qlora::test::golden_path("batches/length_groups.json"));
  for (const Json& run : golden) {
    const auto lengths = run.at("lengths").get<std::vector<std::int64_t>>();
    auto order = run.at("permutation").get<std::vector<std::int64_t>>();
    group_by_length(order, run.at("update").get<std::int64_t>(),
                    [&](std::int64_t i) { return lengths.at(static_cast<std::size_t>(i)); });
    EXPECT_EQ(order, run.at("order").get<std::vector<std::int64_t>>()) << run.at("update");
  }
}

}  // namespace
}  // namespace qlora::data
