// Every supported family against transformers: logits, loss and gradients of tiny random models.

#include "qlora/models/load.h"
#include "support/tensor_golden.h"

#include <torch/csrc/autograd/autograd.h>

namespace qlora::models {
namespace {

// The goldens are float64 from rotary angles in float32, where transformers has them; ours are
// exact. transformers in float32 is as far from them (tests/data/tiny/precision.json).
constexpr double kFloat32Tolerance = 1e-5;
constexpr double kFloat64Tolerance = 3e-6;

struct Case {
  const char* family;
  bool reference;  // float64
};

class TinyModel : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    const auto directory = test::golden_path("tiny") / GetParam().family;
    golden_ = test::read_golden(std::string("tiny/") + GetParam().family + "/golden.safetensors");
    model_ = GetParam().reference ? load_reference(directory) : load(directory, {});
  }

  double tolerance() const { return GetParam().reference ? kFloat64Tolerance : kFloat32Tolerance; }

  test::TensorMap golden_;
  std::unique_ptr<CausalLM> model_;
};

TEST_P(TinyModel, LogitsAndLoss) {
  const nn::ForwardContext context;
  const at::Tensor hidden = model_->hidden_states(golden_.at("input_ids"), context);
  const at::Tensor mask = golden_.at("attention_mask").unsqueeze(2);
  const at::Tensor logits = model_->logits(hidden, context) * mask;
  EXPECT_LT(test::scaled_error(logits, golden_.at("logits")), tolerance());

  const at::Tensor& labels = golden_.at("labels");
  const double count = (labels.slice(1, 1) != -100).sum().item<double>();
  const double loss = model_->loss_sum(hidden, labels, context).item<double>() / count;
  EXPECT_NEAR(loss / golden_.at("loss").item<double>(), 1.0, tolerance());
}

TEST_P(TinyModel, GradientsOfEveryWeight) {
  std::vector<std::pair<std::string, at::Tensor>> weights;
  const auto track = [&](const std::string& name, at::Tensor& tensor) {
    if (!tensor.defined()) return;
    tensor.requires_grad_(true);
    weights.emplace_back(name, tensor);
  };
  model_->visit({.linear =
                     [&](const std::string& path, nn::Linear& m) {
                       track(path + ".weight", m.weight());
                       track(path + ".bias", m.bias());
                     },
                 .embedding = [&](const std::string& path,
                                  nn::Embedding& m) { track(path + ".weight", m.weight()); },
                 .norm = [&](const std::string& path,
                             nn::RmsNorm& m) { track(path + ".weight", m.weight()); }});
  for (const bool recompute : {false, true}) {
    nn::ForwardContext context;
    context.recompute_activations = recompute;
    const at::Tensor& labels = golden_.at("labels");
    const double count = (labels.slice(1, 1) != -100).sum().item<double>();
    const at::Tensor hidden = model_->hidden_states(golden_.at("input_ids"), context);
    torch::autograd::backward({model_->loss_sum(hidden, labels, context) / count});
    for (auto& [name, tensor] : weights) {
      ASSERT_TRUE(tensor.grad().defined()) << name;
      EXPECT_LT(test::scaled_error(tensor.grad(), golden_.at("grad." + name)), tolerance())
          << name << (recompute ? " (recomputed)" : "");
      tensor.mutable_grad().reset();
    }
  }
}

// Token by token through the cache gives what the whole sequence gives.
TEST_P(TinyModel, CacheEqualsWholeSequence) {
  const at::NoGradGuard no_grad;
  const nn::ForwardContext context;
  const at::Tensor& ids = golden_.at("input_ids");
  nn::KvCache cache(model_->config().num_hidden_layers, ids.size(1));
  std::vector<at::Tensor> parts;
  for (const auto& [begin, end] : {std::pair{0, 5}, {5, 6}, {6, 10}, {10, 17}}) {
    parts.push_back(model_->hidden_states(ids.slice(1, begin, end), context, &cache));
  }
  const at::Tensor whole = model_->hidden_states(ids, context);
  EXPECT_LT(test::scaled_error(at::cat(parts, 1), whole), tolerance());
}

INSTANTIATE_TEST_SUITE_P(
    Families, TinyModel,
    testing::Values(Case{"llama2", false}, Case{"llama3", false}, Case{"mistral", false},
                    Case{"qwen2", false}, Case{"qwen3", false}, Case{"exaone", false},
                    Case{"llama2", true}, Case{"llama3", true}, Case{"mistral", true},
                    Case{"qwen2", true}, Case{"qwen3", true}, Case{"exaone", true}),
    [](const auto& tested) {
      return std::string(tested.param.family) + (tested.param.reference ? "_float64" : "_float32");
    });

}  // namespace
}  // namespace qlora::models
