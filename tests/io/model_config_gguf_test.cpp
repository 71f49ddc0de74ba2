#include "io/gguf_models.h"
#include "qlora/io/gguf.h"
#include "qlora/io/model_config.h"

namespace qlora::io {
namespace {

using test::expect_error;
using test::gguf_keys;
using test::gguf_model;
using test::GgufBuilder;

std::filesystem::path new_config_file() {
  return qlora::test::fresh_folder("gguf_config") / "m.gguf";
}

ModelConfig read(const GgufBuilder& builder) {
  return read_model_config(builder.write(new_config_file()));
}

TEST(ModelConfigGgufTest, ReadsKeysAndTensors) {
  const ModelConfig config = read(gguf_model("llama"));
  EXPECT_EQ(config.architecture, Architecture::Llama);
  EXPECT_EQ(config.hidden_size, 32);
  EXPECT_EQ(config.intermediate_size, 64);
  EXPECT_EQ(config.num_hidden_layers, 2);
  EXPECT_EQ(config.num_key_value_heads, 1);
  EXPECT_EQ(config.head_dim, 16);
  EXPECT_EQ(config.vocab_size, 8);
  EXPECT_EQ(config.rope_theta, 500000.0);
  EXPECT_TRUE(config.tie_word_embeddings);
  EXPECT_EQ(config.stop_token_ids, std::vector<std::int64_t>{2});
  EXPECT_FALSE(config.qkv_bias || config.qk_norm || config.dtype.has_value());
  EXPECT_EQ(to_hf_json(config).at("rope_scaling"), nullptr);
}

TEST(ModelConfigGgufTest, TensorsDecideTyingAndBiases) {
  GgufBuilder builder = gguf_model("qwen2");
  test::add_counting(builder, "output.weight", {32, 8});
  test::add_counting(builder, "blk.0.attn_q.bias", {32});
  const ModelConfig config = read(builder);
  EXPECT_EQ(config.architecture, Architecture::Qwen2);
  EXPECT_FALSE(config.tie_word_embeddings);
  EXPECT_TRUE(config.qkv_bias);
  EXPECT_FALSE(config.o_bias);
  EXPECT_TRUE(read(gguf_model("qwen3")).qk_norm);
}

// What llama.cpp's converter stores for factor 8, low 1, high 4, original 8192 at these sizes.
GgufBuilder with_divisors(double factor, bool as_llama3) {
  ModelConfig config;
  config.head_dim = 16;
  config.rope_theta = 500000.0;
  config.rope_scaling = {RopeScaling::Kind::Llama3, factor, 1.0, 4.0, 8192, {}};
  std::vector<float> values;
  for (const double divisor : rope_frequency_divisors(config)) {
    values.push_back(static_cast<float>(as_llama3 ? divisor : divisor + 0.1));
  }
  return gguf_model("llama").tensor("rope_freqs.weight", {8}, 0, test::raw_list(values));
}

TEST(ModelConfigGgufTest, RecoversLlama3ScalingFromItsDivisors) {
  const ModelConfig config = read(with_divisors(8.0, true));
  EXPECT_EQ(config.rope_scaling, (RopeScaling{RopeScaling::Kind::Llama3, 8.0, 1.0, 4.0, 8192, {}}));
  EXPECT_EQ(to_hf_json(config).at("rope_scaling").at("rope_type"), "llama3");
}

TEST(ModelConfigGgufTest, KeepsDivisorsThatFitNoFormula) {
  const ModelConfig config = read(with_divisors(8.0, false));
  EXPECT_EQ(config.rope_scaling.kind, RopeScaling::Kind::Divisors);
  EXPECT_FLOAT_EQ(static_cast<float>(rope_frequency_divisors(config)[0]), 1.1F);
  expect_error([&] { to_hf_json(config); }, "config.json cannot state");
}

TEST(ModelConfigGgufTest, AWindowThatConfigJsonCannotStateIsNotDropped) {
  const ModelConfig config = read(gguf_model("llama").u32("llama.attention.sliding_window", 100));
  EXPECT_EQ(config.sliding_window, 100);
  expect_error([&] { to_hf_json(config); }, "sliding window of 100");
}

TEST(ModelConfigGgufTest, RefusesWhatItCannotRun) {
  const auto refuses = [](const GgufBuilder& builder, std::string_view part) {
    expect_error([&] { read(builder); }, part);
  };
  refuses(GgufBuilder(), "'general.architecture' is missing");
  refuses(GgufBuilder().string("general.architecture", "gemma"),
          "'gemma' is unknown; known are llama, qwen2, qwen3, exaone");
  refuses(GgufBuilder().string("general.architecture", "llama"),
          "'llama.embedding_length' is missing");
  refuses(gguf_keys("llama"), "'token_embd.weight' is missing");
  refuses(gguf_model("llama").u32("llama.expert_count", 8), "mixtures of experts");
  refuses(gguf_model("llama").u32("llama.attention.value_length", 8), "only the head dimension");
  refuses(gguf_model("llama").u32("llama.attention.key_length", 0), "rope.dimension_count");
  refuses(gguf_model("llama").string("llama.rope.scaling.type", "yarn"), "'yarn'; known are none");
  refuses(gguf_model("llama").tensor("rope_freqs.weight", {4}, 0, std::string(16, '\0')),
          "must be F32 of 8 values");
  refuses(gguf_model("llama").tensor("rope_freqs.weight", {8}, 0, std::string(32, '\xff')),
          "'rope_freqs' is");
}

TEST(ModelConfigGgufTest, ReadsSmolLM2) {
  const auto path = qlora::test::source_path("models/SmolLM2-135M-Instruct.Q4_1.gguf");
  QLORA_REQUIRE_DATA(path);
  const ModelConfig config = read_model_config(path);
  EXPECT_EQ(config.num_hidden_layers, 30);
  EXPECT_EQ(config.hidden_size, 576);
  EXPECT_EQ(config.num_attention_heads, 9);
  EXPECT_EQ(config.num_key_value_heads, 3);
  EXPECT_EQ(config.head_dim, 64);
  EXPECT_EQ(config.vocab_size, 49152);
  EXPECT_EQ(config.rope_theta, 100000.0);
  EXPECT_TRUE(config.tie_word_embeddings);
  EXPECT_EQ(config.eos_token_ids, std::vector<std::int64_t>{2});
}

}  // namespace
}  // namespace qlora::io
