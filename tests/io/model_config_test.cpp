#include "qlora/io/model_config.h"
#include "io/file_builders.h"
#include "qlora/base/file.h"

#include <cmath>
#include <limits>
#include <numbers>

namespace qlora::io {
namespace {

using test::expect_error;

Json minimal_llama() {
  return parse_json(R"({"architectures": ["LlamaForCausalLM"], "hidden_size": 64,
      "intermediate_size": 172, "num_hidden_layers": 5, "num_attention_heads": 8,
      "vocab_size": 512, "max_position_embeddings": 512, "rms_norm_eps": 1e-05,
      "a_key_nobody_knows": [1, 2]})",
                    "test");
}

Json with(Json json, const char* key, Json value) {
  json[key] = std::move(value);
  return json;
}

ModelConfig parse(const Json& json) { return model_config_from_json(json, "config.json"); }

ModelConfig tiny(const std::string& name) {
  return read_model_config(qlora::test::golden_path("tiny/" + name));
}

TEST(ModelConfigTest, ReadsExaone) {
  const auto path = qlora::test::data_path("tokenizers/exaone-3.5/config.json");
  QLORA_REQUIRE_DATA(path);
  const ModelConfig config = model_config_from_json(read_json(path), "config.json");
  EXPECT_EQ(config.architecture, Architecture::Exaone);
  EXPECT_EQ(config.num_hidden_layers, 30);
  EXPECT_EQ(config.hidden_size, 2560);
  EXPECT_EQ(config.head_dim, 80);
  EXPECT_EQ(config.num_key_value_heads, 8);
  EXPECT_EQ(config.rms_norm_eps, 1e-5);
  EXPECT_EQ(config.rope_theta, 1e6);
  EXPECT_EQ(config.rope_scaling, (RopeScaling{RopeScaling::Kind::Llama3, 8.0, 1.0, 4.0, 8192, {}}));
  EXPECT_TRUE(config.tie_word_embeddings);
  EXPECT_EQ(config.eos_token_ids, std::vector<std::int64_t>{361});
  EXPECT_EQ(config.bos_token_id, 1);
  EXPECT_EQ(config.pad_token_id, 0);
  EXPECT_EQ(config.dtype, DType::BFloat16);
  EXPECT_FALSE(config.qkv_bias || config.o_bias || config.mlp_bias || config.qk_norm);
  EXPECT_EQ(to_hf_json(config), read_json(path)) << "unchanged, so written back as it was";
}

TEST(ModelConfigTest, ReadsARealLlamaDirectory) {
  const auto path = qlora::test::data_path("models/stories260K");
  QLORA_REQUIRE_DATA(path);
  const ModelConfig config = read_model_config(path);
  EXPECT_EQ(config.architecture, Architecture::Llama);
  EXPECT_EQ(config.num_key_value_heads, 4);
  EXPECT_EQ(config.head_dim, 8);
  EXPECT_EQ(config.rope_scaling.kind, RopeScaling::Kind::None);
  EXPECT_TRUE(config.tie_word_embeddings);
}

TEST(ModelConfigTest, ReadsBothStylesOfRopeKeys) {
  const ModelConfig llama3 = tiny("llama3");  // rope_parameters of transformers 5
  EXPECT_EQ(llama3.rope_theta, 10000.0);
  EXPECT_EQ(llama3.rope_scaling, (RopeScaling{RopeScaling::Kind::Llama3, 8.0, 1.0, 4.0, 64, {}}));
  EXPECT_EQ(llama3.dtype, DType::Float32);
  EXPECT_EQ(tiny("qwen2").rope_theta, 1e6);
  EXPECT_EQ(tiny("qwen2").rope_scaling.kind, RopeScaling::Kind::None);

  const Json linear = {{"type", "linear"}, {"factor", 2.0}};
  const ModelConfig old = parse(with(minimal_llama(), "rope_scaling", linear));
  EXPECT_EQ(old.rope_theta, 10000.0) << "the default of transformers' LlamaConfig";
  EXPECT_EQ(old.rope_scaling.kind, RopeScaling::Kind::Linear);
  EXPECT_EQ(old.rope_scaling.factor, 2.0);
}

TEST(ModelConfigTest, FamiliesDifferWhereTheirTableSaysSo) {
  EXPECT_TRUE(tiny("qwen2").qkv_bias);
  EXPECT_FALSE(tiny("qwen2").o_bias);
  EXPECT_EQ(tiny("qwen2").head_dim, 8);
  EXPECT_TRUE(tiny("qwen3").qk_norm);
  EXPECT_FALSE(tiny("qwen3").qkv_bias);
  EXPECT_EQ(tiny("exaone").num_hidden_layers, 2);
  EXPECT_EQ(tiny("mistral").architecture, Architecture::Mistral);
  EXPECT_FALSE(tiny("mistral").sliding_window.has_value());
  const ModelConfig biased = parse(with(minimal_llama(), "attention_bias", true));
  EXPECT_TRUE(biased.qkv_bias && biased.o_bias);
  Json qwen3 = tiny("qwen3").source;
  qwen3.erase("head_dim");
  EXPECT_EQ(parse(qwen3).head_dim, 128);
}

TEST(ModelConfigTest, SlidingWindows) {
  Json mistral = tiny("mistral").source;
  EXPECT_EQ(parse(with(mistral, "sliding_window", 4096)).sliding_window, 4096);
  EXPECT_EQ(parse(with(mistral, "sliding_window", 5)).context_limit(), 5);
  EXPECT_EQ(parse(mistral).context_limit(), parse(mistral).max_position_embeddings);
  mistral.erase("sliding_window");
  EXPECT_EQ(parse(mistral).sliding_window, 4096);
  Json qwen = with(tiny("qwen2").source, "sliding_window", 100);
  EXPECT_FALSE(parse(qwen).sliding_window.has_value()) << "use_sliding_window is false";
  qwen["use_sliding_window"] = true;
  EXPECT_FALSE(parse(qwen).sliding_window.has_value()) << "no layer is past max_window_layers";
  qwen["max_window_layers"] = 1;
  expect_error([&] { parse(qwen); }, "sliding window in some of the layers");
}

TEST(ModelConfigTest, EndTokensMayBeAListAndGenerationAddsMore) {
  const ModelConfig config = parse(with(minimal_llama(), "eos_token_id", {2, 7}));
  EXPECT_EQ(config.eos_token_ids, (std::vector<std::int64_t>{2, 7}));
  const auto folder = qlora::test::fresh_folder("generation");
  write_text(folder / "config.json", with(minimal_llama(), "eos_token_id", 2).dump());
  write_text(folder / "generation_config.json", R"({"eos_token_id": [2, 9]})");
  const ModelConfig read = read_model_config(folder);
  EXPECT_EQ(read.eos_token_ids, std::vector<std::int64_t>{2});
  EXPECT_EQ(read.stop_token_ids, (std::vector<std::int64_t>{2, 9}));
}

TEST(ModelConfigTest, WritesBackOnlyWhatChanged) {
  ModelConfig config = tiny("llama3");
  EXPECT_EQ(to_hf_json(config), config.source);
  config.dtype = DType::BFloat16;
  config.vocab_size = 100;
  const Json json = to_hf_json(config);
  EXPECT_EQ(json.at("torch_dtype"), "bfloat16");
  EXPECT_FALSE(json.contains("dtype"));
  EXPECT_EQ(json.at("vocab_size"), 100);
  EXPECT_EQ(json.at("rope_parameters"), config.source.at("rope_parameters"));
  config.rope_scaling = {};
  const ModelConfig unscaled = parse(to_hf_json(config));
  EXPECT_EQ(unscaled.rope_scaling.kind, RopeScaling::Kind::None);
  EXPECT_EQ(unscaled.rope_theta, 10000.0);
}

TEST(ModelConfigTest, WritesEveryFactWithoutASource) {
  for (const std::string name : {"llama2", "llama3", "mistral", "qwen2", "qwen3", "exaone"}) {
    ModelConfig config = tiny(name);
    config.source = nullptr;
    ModelConfig read = parse(to_hf_json(config));
    read.source = nullptr;
    EXPECT_EQ(to_hf_json(read), to_hf_json(config)) << name;
    EXPECT_EQ(read.rope_scaling, config.rope_scaling) << name;
    EXPECT_EQ(read.head_dim, config.head_dim) << name;
    EXPECT_EQ(read.qkv_bias, config.qkv_bias) << name;
  }
  EXPECT_TRUE(to_hf_json(tiny("exaone")).contains("num_layers"));
}

TEST(ModelConfigTest, ErrorsNameTheKey) {
  for (const char* key : {"hidden_size", "intermediate_size", "num_hidden_layers", "vocab_size",
                          "num_attention_heads", "max_position_embeddings", "rms_norm_eps"}) {
    Json json = minimal_llama();
    json.erase(key);
    expect_error([&] { parse(json); }, fmt::format("config.json: '{}' is missing", key));
    expect_error([&] { parse(with(json, key, "text")); }, key);
    expect_error([&] { parse(with(json, key, 0)); }, key);
    expect_error([&] { parse(with(json, key, -1)); }, key);
  }
  for (const char* key : {"hidden_size", "intermediate_size", "num_hidden_layers", "vocab_size",
                          "num_attention_heads", "max_position_embeddings"}) {
    const auto max = std::numeric_limits<std::int64_t>::max();
    expect_error([&] { parse(with(with(minimal_llama(), "head_dim", 8), key, max)); }, key);
  }
}

TEST(ModelConfigTest, RefusesWhatItCannotRun) {
  const auto refuses = [](const char* key, const Json& value, std::string_view part) {
    expect_error([&] { parse(with(minimal_llama(), key, value)); }, part);
  };
  refuses("architectures", {"GemmaForCausalLM"},
          "'GemmaForCausalLM' is unknown; known are LlamaForCausalLM, MistralForCausalLM");
  refuses("hidden_act", "gelu", "'hidden_act' is 'gelu'; only silu");
  refuses("num_key_value_heads", 3, "not a multiple of 'num_key_value_heads' (3)");
  refuses("num_key_value_heads", 0, "'num_key_value_heads' is 0");
  refuses("num_attention_heads", 7, "not a multiple of 'num_attention_heads' (7)");
  refuses("head_dim", 7, "need an even number");
  refuses("head_dim", 1 << 20, "'head_dim' is 1048576");
  refuses("rope_theta", -1.0, "'rope_theta' is -1");
  refuses("torch_dtype", "int8", "'torch_dtype' is 'int8'");
  refuses("rope_scaling", {{"type", "yarn"}, {"factor", 2.0}}, "'yarn' is not supported");
  refuses("rope_scaling", {{"rope_type", "llama3"}, {"factor", 2.0}},
          "'low_freq_factor' is missing");
  refuses("rope_scaling", {{"rope_type", "linear"}, {"factor", 0.0}}, "factor' is 0");
  refuses("rope_scaling", 7, "expected an object");
  Json nameless = minimal_llama();
  nameless.erase("architectures");
  expect_error([&] { parse(nameless); }, "'model_type' is missing");
  EXPECT_EQ(parse(with(nameless, "model_type", "llama")).architecture, Architecture::Llama);
  expect_error([] { parse(Json::array()); }, "expected a JSON object");
}

TEST(RopeDivisorsTest, Llama3KeepsShortWavesAndDividesLongOnes) {
  ModelConfig config;
  config.head_dim = 128;
  config.rope_theta = 500000.0;
  config.rope_scaling = {RopeScaling::Kind::Llama3, 8.0, 1.0, 4.0, 8192, {}};
  const std::vector<double> divisors = rope_frequency_divisors(config);
  ASSERT_EQ(divisors.size(), 64U);
  EXPECT_EQ(divisors[0], 1.0);
  EXPECT_EQ(divisors[63], 8.0);
  // Pair 32: wavelength 2 pi sqrt(500000) = 4442.88, between 8192/4 and 8192.
  const double smooth = (8192.0 / (2.0 * std::numbers::pi * std::sqrt(500000.0)) - 1.0) / 3.0;
  EXPECT_NEAR(1.0 / divisors[32], (1.0 - smooth) / 8.0 + smooth, 1e-12);
}

TEST(ArchitectureTest, ChecksNamesOfExaoneAndLlama) {
  EXPECT_EQ(module_path(Architecture::Exaone, Role::GateProj, 3), "transformer.h.3.mlp.c_fc_0");
  EXPECT_EQ(module_path(Architecture::Exaone, Role::OProj, 0),
            "transformer.h.0.attn.attention.out_proj");
  EXPECT_EQ(module_path(Architecture::Exaone, Role::QNorm, 0), "");
  EXPECT_EQ(module_path(Architecture::Qwen3, Role::KNorm, 11), "model.layers.11.self_attn.k_norm");
  EXPECT_EQ(module_path(Architecture::Llama, Role::Embedding), "model.embed_tokens");
  EXPECT_EQ(gguf_module_path(Role::PostAttentionNorm, 2), "blk.2.ffn_norm");
}

}  // namespace
}  // namespace qlora::io
