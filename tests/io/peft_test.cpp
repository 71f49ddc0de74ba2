#include "qlora/io/peft.h"
#include "io/file_builders.h"
#include "qlora/base/file.h"
#include "qlora/io/safetensors.h"

#include <cmath>

namespace qlora::io {
namespace {

using test::expect_error;

Json minimal() {
  return {{"peft_type", "LORA"}, {"r", 4}, {"target_modules", {"q_proj", "v_proj"}}};
}

AdapterConfig parse_adapter(const Json& json) { return adapter_config_from_json(json, "adapter"); }

AdapterConfig with(const char* key, Json value) {
  Json json = minimal();
  json[key] = std::move(value);
  return parse_adapter(json);
}

TEST(AdapterConfigTest, WritesWhatPeftWrote) {
  for (const std::string name : {"tiny/qwen2_lora_plain", "tiny/qwen2_lora_rslora"}) {
    const auto folder = qlora::test::golden_path(name);
    QLORA_REQUIRE_DATA(folder);
    std::string expected = read_text(folder / "adapter_config.json");
    const AdapterConfig config = read_adapter_config(folder);
    EXPECT_EQ(config.use_rslora, name.ends_with("rslora"));
    EXPECT_EQ(config.r, 4);
    const std::string version = read_json(folder / "adapter_config.json").at("peft_version");
    const std::string written = adapter_config_text(config);
    const std::string ours = parse_json(written, "written").at("peft_version");
    const std::size_t at = expected.find(version);
    expected.replace(at, version.size(), ours);
    EXPECT_EQ(written, expected.substr(0, expected.find_last_of('}') + 1));
  }
}

TEST(AdapterConfigTest, EveryFieldSurvivesWritingAndReading) {
  AdapterConfig config;
  config.r = 16;
  config.lora_alpha = 12.5;
  config.lora_dropout = 0.05;
  config.target_modules = std::string("all-linear");
  config.exclude_modules = std::vector<std::string>{"lm_head"};
  config.layers_to_transform = {0, 2};
  config.layers_pattern = {"layers"};
  config.rank_pattern = {{"k_proj", 4}};
  config.alpha_pattern = {{"k_proj", 32.0}};
  config.modules_to_save = {"embed_tokens"};
  config.init_lora_weights = "gaussian";
  config.base_model_name_or_path = "org/model";
  const std::string text = adapter_config_text(config);
  const AdapterConfig read = parse_adapter(parse_json(text, "written"));
  EXPECT_EQ(adapter_config_text(read), text);
  EXPECT_EQ(read.lora_alpha, 12.5);
  EXPECT_EQ(read.rank_pattern, config.rank_pattern);
  EXPECT_EQ(read.alpha_pattern, config.alpha_pattern);
  EXPECT_EQ(read.lora_dropout, 0.05);
  EXPECT_EQ(read.exclude_modules, config.exclude_modules);
  EXPECT_EQ(read.layers_to_transform, config.layers_to_transform);
  EXPECT_EQ(read.layers_pattern, config.layers_pattern);
  EXPECT_EQ(read.modules_to_save, config.modules_to_save);
  EXPECT_EQ(read.base_model_name_or_path, "org/model");
  EXPECT_EQ(std::get<std::string>(read.target_modules), "all-linear");
  EXPECT_EQ(read.init_lora_weights, "gaussian");
}

TEST(AdapterConfigTest, RefusesWhatWouldChangeTheResult) {
  expect_error([] { parse_adapter(Json::object()); }, "'peft_type' is missing");
  expect_error([] { with("peft_type", "IA3"); }, "'peft_type' is 'IA3'; only LORA");
  expect_error([] { with("use_dora", true); }, "'use_dora' is not supported");
  expect_error([] { with("trainable_token_indices", {1}); }, "'trainable_token_indices'");
  expect_error([] { with("init_lora_weights", "pissa"); }, "changes the base weights");
  expect_error([] { with("bias", "all"); }, "'bias' is 'all'");
  expect_error([] { with("r", 0); }, "the rank 0 is out of range");
  expect_error([] { with("r", std::int64_t{1} << 40); }, "out of range");
  expect_error([] { with("r", "8"); }, "expected a whole number");
  expect_error([] { with("rank_pattern", {{"q_proj", -1}}); }, "the rank -1 is out of range");
  expect_error([] { with("lora_dropout", 1.0); }, "'lora_dropout' is 1");
  expect_error([] { with("target_modules", nullptr); }, "'target_modules' is missing");
  expect_error([] { with("target_modules", {1}); }, "expected a list");
  EXPECT_EQ(with("use_dora", false).r, 4);
  EXPECT_EQ(with("a_key_of_the_future", 1).r, 4);
}

TEST(AdapterConfigTest, SaysThatADirectoryIsNoAdapter) {
  const auto folder = qlora::test::fresh_folder("no_adapter");
  expect_error([&] { read_adapter_config(folder); }, "no adapter: adapter_config.json is missing");
  write_text(folder / "adapter_config.json", minimal().dump());
  expect_error([&] { read_adapter_config(folder); }, "adapter_model.safetensors is missing");
}

TEST(AdapterConfigTest, Scaling) {
  AdapterConfig config;
  config.r = 16;
  config.lora_alpha = 32.0;
  EXPECT_EQ(config.scaling_of("model.layers.0.self_attn.q_proj"), 2.0);
  config.rank_pattern = {{"layers\\.0\\.self_attn\\.q_proj", 4}};
  config.alpha_pattern = {{"v_proj", 8.0}};
  EXPECT_EQ(config.rank_of("model.layers.0.self_attn.q_proj"), 4);
  EXPECT_EQ(config.rank_of("model.layers.10.self_attn.q_proj"), 16);
  EXPECT_EQ(config.scaling_of("model.layers.0.self_attn.q_proj"), 8.0);
  EXPECT_EQ(config.scaling_of("model.layers.0.self_attn.v_proj"), 0.5);
  config.use_rslora = true;
  EXPECT_EQ(config.scaling_of("model.layers.1.self_attn.q_proj"), 8.0);
}

TEST(AdapterNamesTest, RealNamesGoBothWays) {
  const auto path = qlora::test::golden_path("tiny/qwen2_lora_plain/adapter_model.safetensors");
  QLORA_REQUIRE_DATA(path);
  const SafetensorsFile file(path);
  for (const TensorView& tensor : file.tensors()) {
    const AdapterTensorName name = parse_adapter_tensor_name(tensor.name, "adapter");
    EXPECT_EQ(adapter_tensor_name(name), tensor.name);
    EXPECT_TRUE(name.module.starts_with("model.layers.")) << name.module;
    EXPECT_EQ(name.part == AdapterPart::LoraA, tensor.shape[0] == 4) << tensor.name;
  }
}

TEST(AdapterNamesTest, EveryKindGoesBothWays) {
  const std::pair<const char*, AdapterTensorName> cases[] = {
      {"base_model.model.a.lora_B.weight", {"a", AdapterPart::LoraB, ""}},
      {"base_model.model.model.embed_tokens.lora_embedding_A",
       {"model.embed_tokens", AdapterPart::EmbeddingA, ""}},
      {"base_model.model.score.weight", {"score", AdapterPart::Saved, "weight"}},
      {"base_model.model.classifier.bias", {"classifier", AdapterPart::Saved, "bias"}}};
  for (const auto& [text, name] : cases) {
    const AdapterTensorName read = parse_adapter_tensor_name(text, "adapter");
    EXPECT_EQ(read.module, name.module);
    EXPECT_EQ(read.part, name.part);
    EXPECT_EQ(read.parameter, name.parameter);
    EXPECT_EQ(adapter_tensor_name(read), text);
  }
  for (const char* bad : {"model.a.lora_A.weight", "base_model.model.", "base_model.model.weight",
                          "base_model.model..lora_A.weight.x", "base_model.model.a.lora_B.bias",
                          "base_model.model.a.lora_magnitude_vector"}) {
    expect_error([&] { parse_adapter_tensor_name(bad, "adapter"); }, "adapter: tensor");
  }
}

TEST(TargetsTest, ListsMatchWholeNamesAtTheEnd) {
  const ModulePattern list = std::vector<std::string>{"q_proj", "mlp.up_proj"};
  EXPECT_TRUE(matches(list, "q_proj"));
  EXPECT_TRUE(matches(list, "model.layers.0.self_attn.q_proj"));
  EXPECT_TRUE(matches(list, "model.layers.0.mlp.up_proj"));
  EXPECT_FALSE(matches(list, "model.layers.0.self_attn.sq_proj"));
  EXPECT_FALSE(matches(list, "model.layers.0.self_attn.q_proj.x"));
}

TEST(TargetsTest, TextsMatchTheWholePath) {
  EXPECT_TRUE(matches(std::string(R"(.*\.(q|v)_proj)"), "model.layers.0.self_attn.v_proj"));
  EXPECT_FALSE(matches(std::string("q_proj"), "model.layers.0.self_attn.q_proj"));
  expect_error([] { matches(std::string("(q_proj"), "q_proj"); }, "is not a regular expression");
}

TEST(TargetsTest, ExclusionsAndLayers) {
  AdapterConfig config = parse_adapter(minimal());
  EXPECT_TRUE(is_target(config, "model.layers.3.self_attn.q_proj", false));
  EXPECT_FALSE(is_target(config, "model.layers.3.self_attn.k_proj", true));
  config.layers_to_transform = {3};
  EXPECT_TRUE(is_target(config, "model.layers.3.self_attn.q_proj", false));
  EXPECT_FALSE(is_target(config, "model.layers.13.self_attn.q_proj", false));
  EXPECT_FALSE(is_target(config, "q_proj", false));
  config.layers_pattern = {"h"};
  EXPECT_FALSE(is_target(config, "model.layers.3.self_attn.q_proj", false));
  EXPECT_TRUE(is_target(config, "transformer.h.3.attn.q_proj", false));
  config = parse_adapter(minimal());
  config.modules_to_save = {"head"};
  EXPECT_FALSE(is_target(config, "head.q_proj", false));
  config.exclude_modules = std::string(R"(.*layers\.0\..*)");
  EXPECT_FALSE(is_target(config, "model.layers.0.self_attn.q_proj", false));
  config.target_modules = std::string(kAllLinear);
  EXPECT_TRUE(is_target(config, "model.layers.1.mlp.up_proj", true));
  EXPECT_FALSE(is_target(config, "model.norm", false));
}

}  // namespace
}  // namespace qlora::io
