// SmolLM2-135M-Instruct from its GGUF file against transformers.

#include "support/smollm2.h"

#include "qlora/base/json.h"
#include "qlora/models/load.h"
#include "support/tensor_golden.h"

namespace qlora::models {
namespace {

at::Tensor to_tensor(const std::vector<std::int64_t>& values) {
  return at::tensor(at::ArrayRef<std::int64_t>(values), at::kLong);
}

TEST(SmolLm2, LogitsEqualTransformers) {
  QLORA_REQUIRE_DATA(test::smollm2_path());
  const Json golden = read_json(test::golden_path("smollm2/logits.json"));
  const at::NoGradGuard no_grad;
  const auto model = load(test::smollm2_path(), {});
  for (const Json& dialogue : golden) {
    const at::Tensor ids = to_tensor(dialogue.at("input_ids").get<std::vector<std::int64_t>>());
    const at::Tensor logits = model->logits(model->hidden_states(ids.unsqueeze(0), {}), {})[0];
    for (const Json& point : dialogue.at("logits")) {
      const at::Tensor row = logits[point.at("position").get<std::int64_t>()];
      const auto top_ids = point.at("top_ids").get<std::vector<std::int64_t>>();
      const auto top = point.at("top_logits").get<std::vector<double>>();
      const auto sampled = point.at("every_1009th").get<std::vector<double>>();
      const at::Tensor found =
          at::cat({row.index_select(0, to_tensor(top_ids)), row.slice(0, 0, row.size(0), 1009)});
      const at::Tensor expected = at::cat({at::tensor(at::ArrayRef<double>(top), at::kDouble),
                                           at::tensor(at::ArrayRef<double>(sampled), at::kDouble)});
      // Thirty float32 layers on either side.
      EXPECT_LT(test::scaled_error(found, expected), 1e-5);
    }
  }
}

TEST(SmolLm2, GreedyAnswerEqualsTransformers) {
  QLORA_REQUIRE_DATA(test::smollm2_path());
  const Json golden = read_json(test::golden_path("smollm2/logits.json"));
  const at::NoGradGuard no_grad;
  const auto model = load(test::smollm2_path(), {});
  for (const Json& dialogue : golden) {
    const auto expected = dialogue.at("greedy_ids").get<std::vector<std::int64_t>>();
    at::Tensor next =
        to_tensor(dialogue.at("input_ids").get<std::vector<std::int64_t>>()).unsqueeze(0);
    nn::KvCache cache(model->config().num_hidden_layers, 256);
    for (const std::int64_t id : expected) {
      const at::Tensor hidden = model->hidden_states(next, {}, &cache).slice(1, -1);
      next = model->logits(hidden, {}).argmax(-1);
      EXPECT_EQ(next.item<std::int64_t>(), id);
    }
  }
}

}  // namespace
}  // namespace qlora::models
