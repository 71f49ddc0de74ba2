// A real pretrained model: stories260K's published greedy text and logits.

#include "qlora/base/json.h"
#include "qlora/models/load.h"
#include "support/tensor_golden.h"

namespace qlora::models {
namespace {

TEST(Stories260K, GreedyIdsAndLogits) {
  const auto folder = test::data_path("models/stories260K");
  QLORA_REQUIRE_DATA(folder);
  const Json golden = read_json(folder / "golden.json");
  const auto expected = golden.at("greedy_ids").get<std::vector<std::int64_t>>();
  const at::NoGradGuard no_grad;
  const auto model = load(folder, {});
  const nn::ForwardContext context;
  nn::KvCache cache(model->config().num_hidden_layers, 256);
  std::vector<std::int64_t> ids{expected.front()};
  while (ids.size() < expected.size()) {
    const at::Tensor last = at::full({1, 1}, ids.back(), at::kLong);
    const at::Tensor logits = model->logits(model->hidden_states(last, context, &cache), context);
    if (ids.size() == 1) {
      const auto wanted = golden.at("logits_after_bos").get<std::vector<double>>();
      const at::Tensor reference = at::tensor(at::ArrayRef<double>(wanted), at::kDouble);
      EXPECT_LT(test::scaled_error(logits.reshape({-1}), reference), 1e-5);
    }
    ids.push_back(logits.argmax(-1).item<std::int64_t>());
  }
  EXPECT_EQ(ids, expected);
}

}  // namespace
}  // namespace qlora::models
