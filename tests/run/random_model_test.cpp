#include "qlora/run/random_model.h"

#include "qlora/base/file.h"
#include "qlora/base/json.h"
#include "qlora/io/safetensors.h"
#include "qlora/tensor/bridge.h"
#include "run/support.h"
#include "support/message.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace qlora::run {
namespace {

namespace fs = std::filesystem;
using qlora::test::message_of;
using ::testing::HasSubstr;

TEST(RandomModel, LoadsInEveryFamilysShape) {
  for (const char* name : {"llama2", "llama3", "mistral", "qwen2", "qwen3", "exaone"}) {
    const fs::path folder = test::fresh_folder("random_model");
    const std::int64_t bytes =
        make_random_model({.config = test::tiny(name) / "config.json", .output = folder / "out"});
    EXPECT_EQ(test::logits_of(*test::load(folder / "out")).size(-1),
              test::load(test::tiny(name))->config().vocab_size);
    EXPECT_LE(bytes, static_cast<std::int64_t>(fs::file_size(folder / "out/model.safetensors")));
  }
}

TEST(RandomModel, WeightsAreNormalAndNormsOne) {
  const fs::path folder = test::fresh_folder("random_values");
  Json config = read_json(test::tiny("qwen2") / "config.json");
  config["initializer_range"] = 0.5;
  write_text(folder / "config.json", config.dump());
  make_random_model(
      {.config = folder / "config.json", .output = folder / "out", .dtype = DType::Float32});
  const io::SafetensorsFile file(folder / "out/model.safetensors");
  const auto values = [&](const char* name) { return tensor::to_tensor(*file.find(name)); };
  const at::Tensor weight = values("model.embed_tokens.weight");
  // 96 · 32 draws: their deviation is known to 1 / sqrt(2n) = 1.3 %, their mean to 0.009.
  EXPECT_NEAR(weight.std().item<double>(), 0.5, 0.03);
  EXPECT_NEAR(weight.mean().item<double>(), 0, 0.04);
  EXPECT_TRUE((values("model.norm.weight") == 1).all().item<bool>());
  EXPECT_TRUE((values("model.layers.1.self_attn.k_proj.bias") == 0).all().item<bool>());
  EXPECT_FALSE(at::equal(values("model.layers.0.self_attn.q_proj.weight"),
                         values("model.layers.1.self_attn.q_proj.weight")));
}

TEST(RandomModel, SeedNamesTheWeights) {
  const fs::path folder = test::fresh_folder("random_seed");
  RandomModelOptions options{.config = test::tiny("llama3") / "config.json"};
  const auto bytes_for = [&](std::int64_t seed, const char* output) {
    options.seed = seed;
    options.output = folder / output;
    make_random_model(options);
    return read_text(folder / output / "model.safetensors");
  };
  const std::string first = bytes_for(1, "a");
  EXPECT_EQ(bytes_for(1, "b"), first);
  EXPECT_NE(bytes_for(2, "c"), first);
}

TEST(RandomModel, SaysWhatIsWrong) {
  const fs::path folder = test::fresh_folder("random_refusals");
  write_text(folder / "gemma.json", R"({"architectures": ["Gemma2ForCausalLM"]})");
  const auto error = [&](const char* config) {
    return message_of(
        [&] { make_random_model({.config = folder / config, .output = folder / "out"}); });
  };
  EXPECT_THAT(error("nothing.json"), HasSubstr("nothing.json"));
  EXPECT_THAT(error("gemma.json"), HasSubstr("LlamaForCausalLM"));  // the known ones
  EXPECT_EQ(test::names_in(folder), std::vector<std::string>{"gemma.json"});
}

}  // namespace
}  // namespace qlora::run
