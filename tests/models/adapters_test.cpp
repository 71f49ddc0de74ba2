// LoRA on whole models: against PEFT, and what is trained, stored and refused.

#include "qlora/models/adapters.h"

#include "qlora/base/error.h"
#include "qlora/models/load.h"
#include "support/message.h"
#include "support/tensor_golden.h"

#include <torch/csrc/autograd/autograd.h>

#include <fstream>

namespace qlora::models {
namespace {

namespace fs = std::filesystem;

std::unique_ptr<CausalLM> tiny(const std::string& family) {
  return load(test::golden_path("tiny") / family, {});
}

class PeftAdapter : public testing::TestWithParam<const char*> {};

TEST_P(PeftAdapter, LogitsAndGradientsEqualPeft) {
  const std::string name = std::string("tiny/qwen2_lora_") + GetParam();
  const auto golden = test::read_golden(name + "/golden.safetensors");
  const auto model = tiny("qwen2");
  load_adapter(*model, test::golden_path(name));
  const nn::ForwardContext context;
  const at::Tensor hidden = model->hidden_states(golden.at("input_ids"), context);
  const at::Tensor mask = golden.at("attention_mask").unsqueeze(2);
  EXPECT_LT(test::scaled_error(model->logits(hidden, context) * mask, golden.at("logits")), 1e-5);
  const at::Tensor& labels = golden.at("labels");
  const double count = (labels.slice(1, 1) != -100).sum().item<double>();
  torch::autograd::backward({model->loss_sum(hidden, labels, context) / count});
  const auto parameters = trainable_parameters(*model);
  EXPECT_EQ(parameters.size(), 2u * 7u * 2u);
  for (const auto& p : parameters) {
    EXPECT_LT(test::scaled_error(p.value.grad(), golden.at("grad." + p.name)), 1e-5) << p.name;
  }
}

INSTANTIATE_TEST_SUITE_P(Scalings, PeftAdapter, testing::Values("plain", "rslora"));

TEST(Adapters, SavedFilesLoadToTheSameAdapter) {
  const auto model = tiny("exaone");
  nn::LoraConfig config;
  config.target_modules = std::vector<std::string>{"q_proj", "c_fc_0"};
  config.init_lora_weights = nn::LoraInit::Random;
  config.modules_to_save = {"ln_f"};
  const auto adapter = to_adapter_config(config, "base");
  attach_lora(*model, adapter, DType::Float32, 11);
  const fs::path folder = test::fresh_folder("adapter");
  save_adapter(*model, adapter, folder);

  const auto other = tiny("exaone");
  load_adapter(*other, folder);
  const auto before = trainable_parameters(*model);
  const auto after = trainable_parameters(*other);
  ASSERT_EQ(before.size(), after.size());
  ASSERT_EQ(before.size(), 2u * 2u * 2u + 1u);
  for (std::size_t i = 0; i < before.size(); ++i) {
    EXPECT_EQ(before[i].name, after[i].name);
    EXPECT_TRUE(at::equal(before[i].value, after[i].value)) << before[i].name;
  }
}

TEST(Adapters, InitsHaveTheirDistributions) {
  const auto draw = [](nn::LoraInit init, bool second) {
    nn::LoraOptions options{
        .rank = 64, .scaling = 1, .dropout = 0, .init = init, .dtype = at::kFloat};
    const nn::LoraAdapter adapter(1024, 512, options, "m", 3, c10::kCPU);
    return (second ? adapter.b : adapter.a).detach();
  };
  // U(-1/32, 1/32) has deviation 1/32/sqrt(3); 65,536 draws tell it to about 0.5 %.
  EXPECT_NEAR(draw(nn::LoraInit::Kaiming, false).std().item<double>(), 0.018042, 2e-4);
  EXPECT_LE(draw(nn::LoraInit::Kaiming, false).abs().max().item<double>(), 1.0 / 32);
  EXPECT_NEAR(draw(nn::LoraInit::Gaussian, false).std().item<double>(), 1.0 / 64, 2e-4);
  EXPECT_GT(draw(nn::LoraInit::Gaussian, false).abs().max().item<double>(), 3.5 / 64);
  EXPECT_EQ(draw(nn::LoraInit::Kaiming, true).abs().max().item<double>(), 0.0);
  EXPECT_EQ(draw(nn::LoraInit::Gaussian, true).abs().max().item<double>(), 0.0);
  // B as a fresh linear layer of 64 inputs: U(-1/8, 1/8).
  EXPECT_NEAR(draw(nn::LoraInit::Random, true).std().item<double>(), 0.072169, 1e-3);
}

TEST(Adapters, AllLinearSparesTheOutputProjection) {
  const auto model = tiny("llama2");
  attach_lora(*model, to_adapter_config({}, ""), DType::Float32, 1);
  for (const auto& p : trainable_parameters(*model)) {
    EXPECT_EQ(p.name.find("lm_head"), std::string::npos);
  }
  EXPECT_EQ(trainable_parameters(*model).size(), 2u * 7u * 2u);
}

TEST(Adapters, FullyTrainedEmbeddingOfATiedModelIsItsHeadToo) {
  const auto model = tiny("qwen2");
  nn::LoraConfig config;
  config.modules_to_save = {"embed_tokens"};
  attach_lora(*model, to_adapter_config(config, ""), DType::Float32, 1);
  const auto parameters = trainable_parameters(*model);
  ASSERT_TRUE(parameters.front().name.ends_with("embed_tokens.weight"));
  const nn::ForwardContext context;
  // A token that is never an input gets a gradient through the output projection alone.
  const at::Tensor ids = at::arange(1, 4, at::kLong).unsqueeze(0);
  const at::Tensor hidden = model->hidden_states(ids, context);
  torch::autograd::backward({model->loss_sum(hidden, ids, context)});
  EXPECT_GT(parameters.front().value.grad()[9].abs().max().item<double>(), 0.0);

  const auto folder = test::fresh_folder("tied");
  save_adapter(*model, to_adapter_config(config, ""), folder);
  EXPECT_TRUE(io::read_adapter_config(folder).ensure_weight_tying) << "PEFT unties it otherwise";
}

TEST(Adapters, AnEmbeddingElsewhereTakesNoneOfTheDevicesMemory) {
  const auto model = tiny("llama2");
  const ParameterCount here = count_parameters(*model);
  std::int64_t bytes = 0;
  model->visit({.linear = {},
                .embedding =
                    [&](const std::string&, nn::Embedding& m) {
                      bytes = static_cast<std::int64_t>(m.weight().nbytes());
                      m.weight() = m.weight().to(at::kMeta);
                    },
                .norm = {}});
  const ParameterCount there = count_parameters(*model);
  EXPECT_GT(bytes, 0);
  EXPECT_EQ(there.weight_bytes, here.weight_bytes - bytes);
  EXPECT_EQ(there.total, here.total);
}

TEST(Adapters, ErrorsSayWhatThereIs) {
  const auto attach = [](const std::string& family, const nn::LoraConfig& config) {
    const auto model = tiny(family);
    return test::message_of(
        [&] { attach_lora(*model, to_adapter_config(config, ""), DType::Float32, 1); });
  };
  nn::LoraConfig config;
  config.target_modules = std::vector<std::string>{"c_attn"};
  EXPECT_NE(attach("llama2", config).find("q_proj"), std::string::npos);
  config = {};
  config.modules_to_save = {"lm_head"};
  EXPECT_NE(attach("qwen2", config).find("tied"), std::string::npos);
  config.modules_to_save = {"nothing"};
  EXPECT_NE(attach("llama2", config).find("'nothing'"), std::string::npos);
}

TEST(Adapters, WrongModelIsRefusedByName) {
  const auto model = tiny("llama2");
  const std::string message =
      test::message_of([&] { load_adapter(*model, test::golden_path("tiny/qwen2_lora_plain")); });
  EXPECT_NE(message.find("adapter_model.safetensors"), std::string::npos) << message;
}

TEST(Adapters, TruncatedFileIsRefused) {
  const fs::path folder = test::fresh_folder("truncated");
  fs::copy(test::golden_path("tiny/qwen2_lora_plain"), folder);
  fs::resize_file(folder / "adapter_model.safetensors", 5000);
  const auto model = tiny("qwen2");
  EXPECT_THROW(load_adapter(*model, folder), Error);
}

}  // namespace
}  // namespace qlora::models
