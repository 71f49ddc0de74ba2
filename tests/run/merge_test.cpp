#include "qlora/run/merge.h"

#include "qlora/base/file.h"
#include "qlora/io/safetensors.h"
#include "qlora/models/adapters.h"
#include "qlora/tensor/bridge.h"
#include "qlora/text/chat_template.h"
#include "run/support.h"
#include "support/message.h"

#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace qlora::run {
namespace {

namespace fs = std::filesystem;
using qlora::test::message_of;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Merging moves the low-rank product from the activations to the weight: the same sums in another
// order, a few float32 roundings (2^-24 each) of the largest logit.
constexpr double kFloat32Rounding = 5e-6;
// What NF4 does to the logits of these models is thousands of times larger.
constexpr double kQuantizationEffect = 1e-2;

at::Tensor stored(const fs::path& model, const std::string& name) {
  const io::SafetensorsFile file(model / "model.safetensors");
  return tensor::to_tensor(*file.find(name));
}

struct Base {
  const char* model;
  bool quantized;
  bool double_quant;
  kernels::QuantType type = kernels::QuantType::NF4;
};

class MergeOntoBase : public ::testing::TestWithParam<Base> {};

TEST_P(MergeOntoBase, SpeaksLikeBaseAndAdapter) {
  const Base& base = GetParam();
  const fs::path folder = test::fresh_folder("merge_onto_base");
  test::make_adapter(test::tiny(base.model), test::random_lora(), folder / "adapter");
  const auto quantization =
      base.quantized ? test::four_bits(base.type, base.double_quant) : tensor::QuantizationConfig{};
  write_training_base(training_base_of(quantization, DType::Float32), folder / "adapter");
  write_text(folder / "adapter" / text::kChatTemplateFile, "own template");
  const MergeReport report = merge({.base = test::tiny(base.model),
                                    .adapter = folder / "adapter",
                                    .output = folder / "merged",
                                    .dtype = DType::Float32});
  EXPECT_EQ(report.adapted, 14);
  EXPECT_GT(report.relative_change, 0.01);
  EXPECT_GE(report.max_relative_change, report.relative_change);
  EXPECT_EQ(report.rounding_error, 0);
  EXPECT_EQ(read_text(folder / "merged" / text::kChatTemplateFile), "own template");

  const auto model = test::load(test::tiny(base.model), quantization);
  const at::Tensor plain = test::logits_of(*model);
  models::load_adapter(*model, folder / "adapter");
  const at::Tensor expected = test::logits_of(*model);
  const auto merged = test::load(folder / "merged");
  EXPECT_LT(test::relative_difference(test::logits_of(*merged), expected), kFloat32Rounding);
  EXPECT_GT(test::relative_difference(plain, expected), kQuantizationEffect);

  merge({.base = test::tiny(base.model),
         .adapter = folder / "adapter",
         .output = folder / "original",
         .dtype = DType::Float32,
         .base_weights = BaseWeights::Original});
  const auto original = test::load(folder / "original");
  const double difference = test::relative_difference(test::logits_of(*original), expected);
  if (base.quantized) {
    EXPECT_GT(difference, kQuantizationEffect);
  } else {
    EXPECT_LT(difference, kFloat32Rounding);
  }
}

INSTANTIATE_TEST_SUITE_P(Tiny, MergeOntoBase,
                         ::testing::Values(Base{"llama2", false, false},
                                           Base{"llama2", true, false}, Base{"llama3", true, true},
                                           Base{"exaone", true, true},
                                           Base{"mistral", true, false, kernels::QuantType::FP4},
                                           Base{"qwen2", true, true}, Base{"qwen3", false, false}),
                         [](const auto& base) {
                           return std::string(base.param.model) +
                                  (base.param.quantized ? "_4bit" : "_dense") +
                                  (base.param.double_quant ? "_nested" : "");
                         });

TEST(Merge, GivesWhatPeftGives) {
  for (const char* name : {"qwen2_lora_plain", "qwen2_lora_rslora"}) {
    const fs::path folder = test::fresh_folder("merge_peft");
    merge({.base = test::tiny("qwen2"),
           .adapter = test::tiny(name),
           .output = folder / "merged",
           .dtype = DType::Float32});
    const io::SafetensorsFile golden(test::tiny(name) / "golden.safetensors");
    int compared = 0;
    for (const io::TensorView& view : golden.tensors()) {
      if (!view.name.starts_with("merged.")) continue;
      const at::Tensor merged = stored(folder / "merged", view.name.substr(7));
      // Products of rank 4 summed in another order.
      EXPECT_LT(test::relative_difference(merged, tensor::to_tensor(view)), 5e-7) << view.name;
      ++compared;
    }
    EXPECT_EQ(compared, 2);
  }
}

TEST(Merge, RoundsOnce) {
  const fs::path folder = test::fresh_folder("merge_rounding");
  test::make_adapter(test::tiny("llama2"), test::random_lora(), folder / "adapter");
  MergeOptions options{.base = test::tiny("llama2"), .adapter = folder / "adapter"};
  options.output = folder / "wide";
  options.dtype = DType::Float32;
  merge(options);
  for (const DType dtype : {DType::BFloat16, DType::Float16}) {
    options.output = folder / name_of(dtype);
    options.dtype = dtype;
    const MergeReport report = merge(options);
    const io::SafetensorsFile wide(folder / "wide/model.safetensors");
    for (const io::TensorView& view : wide.tensors()) {
      const at::Tensor expected = tensor::to_tensor(view).to(tensor::scalar_type(dtype));
      EXPECT_TRUE(at::equal(stored(options.output, view.name), expected)) << view.name;
    }
    // A relative error of at most 2^-9 and 2^-12, on average about half of it.
    const double unit = dtype == DType::BFloat16 ? 0x1p-9 : 0x1p-12;
    EXPECT_GT(report.rounding_error, 0.2 * unit);
    EXPECT_LT(report.rounding_error, unit);
    const Json config = read_json(fs::path(options.output) / "config.json");
    EXPECT_EQ(config.at("torch_dtype"), name_of(dtype));
  }
}

TEST(Merge, TakesFullyTrainedModules) {
  for (const auto& [base, module] :
       {std::pair{"llama3", "embed_tokens"}, {"llama2", "lm_head"}, {"llama2", "norm"}}) {
    const fs::path folder = test::fresh_folder("merge_saved");
    nn::LoraConfig config = test::random_lora();
    config.modules_to_save = {module};
    const auto model = test::load(test::tiny(base));
    const auto adapter = models::to_adapter_config(config, base);
    models::attach_lora(*model, adapter, DType::Float32, /*seed=*/1);
    std::int64_t changed = 0;
    for (const auto& parameter : models::trainable_parameters(*model)) {
      if (parameter.name.find("lora_") != std::string::npos) continue;
      const at::NoGradGuard no_grad;
      parameter.value.mul_(-1.5);
      ++changed;
    }
    fs::create_directory(folder / "adapter");
    models::save_adapter(*model, adapter, folder / "adapter");
    const MergeReport report = merge({.base = test::tiny(base),
                                      .adapter = folder / "adapter",
                                      .output = folder / "merged",
                                      .dtype = DType::Float32});
    EXPECT_EQ(report.replaced, changed);
    const auto merged = test::load(folder / "merged");
    EXPECT_EQ(merged->config().tie_word_embeddings, model->config().tie_word_embeddings);
    EXPECT_LT(test::relative_difference(test::logits_of(*merged), test::logits_of(*model)),
              kFloat32Rounding);
  }
}

TEST(Merge, DropsTheQuantizationFromTheConfig) {
  const fs::path folder = test::fresh_folder("merge_config");
  test::make_adapter(test::tiny("llama2"), test::random_lora(), folder / "adapter");
  fs::create_directory(folder / "base");
  fs::copy(test::tiny("llama2"), folder / "base");
  Json config = read_json(folder / "base/config.json");
  config["quantization_config"] = io::to_json(io::BnbQuantizationConfig{});
  write_text(folder / "base/config.json", config.dump());
  write_text(folder / "base/generation_config.json", R"({"eos_token_id": 2})");
  merge({.base = folder / "base", .adapter = folder / "adapter", .output = folder / "merged"});
  config = read_json(folder / "merged/config.json");
  EXPECT_FALSE(config.contains("quantization_config"));
  EXPECT_THAT(test::names_in(folder / "merged"),
              ElementsAre("config.json", "generation_config.json", "model.safetensors"));
}

// Runs a merge that must fail and leave nothing behind.
std::string failure(const fs::path& folder, MergeOptions options) {
  options.output = (folder / "out/merged").string();
  fs::create_directories(folder / "out");
  const std::string message = message_of([&] { merge(options); });
  EXPECT_TRUE(fs::is_empty(folder / "out"));
  EXPECT_EQ(message.find('\n'), std::string::npos);
  return message;
}

TEST(Merge, RefusesWhatDoesNotFit) {
  const fs::path folder = test::fresh_folder("merge_refusals");
  const fs::path adapter = folder / "adapter";
  test::make_adapter(test::tiny("llama2"), test::random_lora(), adapter);
  const auto onto = [&](const std::string& base) {
    return failure(folder, {.base = base, .adapter = adapter});
  };
  EXPECT_THAT(onto(folder / "nothing"), HasSubstr("no such model directory"));
  EXPECT_THAT(onto(adapter), HasSubstr("config.json is missing"));
  EXPECT_THAT(onto(test::tiny("llama3")), HasSubstr("has shape"));
  EXPECT_THAT(onto(test::tiny("exaone")),
              HasSubstr("transformer.h.0.attn.attention.q_proj.lora_A"));
  EXPECT_THAT(failure(folder, {.base = test::tiny("llama2"), .adapter = folder / "nothing"}),
              HasSubstr("nothing"));

  const fs::path weights = adapter / io::kAdapterWeightsName;
  const std::string bytes = read_text(weights);
  write_text(weights, bytes.substr(0, bytes.size() / 2));
  EXPECT_THAT(onto(test::tiny("llama2")), HasSubstr("adapter_model.safetensors"));
  write_text(weights, bytes);
  nn::LoraConfig fewer = test::random_lora();
  fewer.target_modules = std::vector<std::string>{"q_proj"};
  const auto rewrite_config = [&](const nn::LoraConfig& config) {
    write_text(adapter / io::kAdapterConfigName,
               io::adapter_config_text(models::to_adapter_config(config, "")));
  };
  rewrite_config(fewer);
  EXPECT_THAT(onto(test::tiny("llama2")), HasSubstr("has no place in this model"));
  nn::LoraConfig more = test::random_lora();
  more.modules_to_save = {"lm_head"};
  rewrite_config(more);
  EXPECT_THAT(onto(test::tiny("llama2")), HasSubstr("lm_head.weight' is missing"));
}

TEST(Merge, RefusesValuesThatTheTypeCannotHold) {
  const fs::path folder = test::fresh_folder("merge_overflow");
  nn::LoraConfig config = test::random_lora();
  config.lora_alpha = 1 << 30;
  test::make_adapter(test::tiny("llama2"), config, folder / "adapter");
  MergeOptions options{.base = test::tiny("llama2"), .adapter = folder / "adapter"};
  options.dtype = DType::Float16;
  EXPECT_THAT(failure(folder, options), HasSubstr("try --dtype bfloat16"));
}

}  // namespace
}  // namespace qlora::run
