#include "qlora/run/inspect.h"

#include "qlora/base/file.h"
#include "qlora/models/adapters.h"
#include "qlora/run/quantize_model.h"
#include "run/support.h"
#include "support/message.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace qlora::run {
namespace {

namespace fs = std::filesystem;
using qlora::test::message_of;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(Inspect, ModelDirectory) {
  const Json facts = inspect(test::tiny("mistral"));  // two shards
  EXPECT_EQ(facts.at("kind"), "model directory");
  EXPECT_EQ(facts.at("model").at("architecture"), "MistralForCausalLM");
  const auto model = test::load(test::tiny("mistral"));
  const auto count = models::count_parameters(*model);
  EXPECT_EQ(facts.at("model").at("parameters"), count.total);
  EXPECT_EQ(facts.at("bytes"), 4 * count.total);  // stored in float32
  EXPECT_EQ(facts.at("tensor_count"), facts.at("tensors").size());
  EXPECT_THAT(describe(facts), HasSubstr("model.layers.1.mlp.down_proj.weight"));
}

TEST(Inspect, MemoryIsWhatLoadingTakes) {
  for (const char* name : {"llama2", "llama3", "exaone", "qwen2"}) {
    const Json memory = inspect(test::tiny(name)).at("memory");
    const auto loaded = [&](const tensor::QuantizationConfig& config, DType dtype) {
      const auto model = models::load(test::tiny(name), {.quantization = config, .dtype = dtype});
      return models::count_parameters(*model).weight_bytes;
    };
    using enum kernels::QuantType;
    EXPECT_EQ(memory.at("float32"), loaded({}, DType::Float32)) << name;
    EXPECT_EQ(memory.at("float16_or_bfloat16"), loaded({}, DType::BFloat16)) << name;
    EXPECT_EQ(memory.at("nf4"), loaded(test::four_bits(NF4, false), DType::BFloat16)) << name;
    EXPECT_EQ(memory.at("nf4_double_quant"), loaded(test::four_bits(NF4, true), DType::BFloat16));
  }
}

TEST(Inspect, QuantizedModel) {
  const fs::path folder = test::fresh_folder("inspect_quantized");
  const auto report = quantize_model(
      {.model = test::tiny("llama2"), .output = folder / "out", .double_quant = true});
  const Json facts = inspect(folder / "out");
  EXPECT_EQ(facts.at("quantization").at("bnb_4bit_quant_type"), "nf4");
  EXPECT_EQ(facts.at("bytes"), report.stored_bytes);
  EXPECT_THAT(describe(facts), HasSubstr("14 nf4 ("));
}

TEST(Inspect, AdapterAndCheckpoint) {
  Json facts = inspect(test::tiny("qwen2_lora_plain"));
  EXPECT_EQ(facts.at("kind"), "adapter directory");
  EXPECT_EQ(facts.at("adapter").at("r"), 4);
  EXPECT_EQ(facts.at("tensor_count"), 28);
  const fs::path folder = test::fresh_folder("inspect_checkpoint");
  fs::copy(test::tiny("qwen2_lora_plain"), folder);
  write_text(folder / "trainer_state.json", R"({"global_step": 7})");
  facts = inspect(folder);
  EXPECT_EQ(facts.at("kind"), "training checkpoint");
  EXPECT_EQ(facts.at("trainer_state").at("global_step"), 7);
}

TEST(Inspect, SafetensorsFileAndUnknownModel) {
  const Json facts = inspect(test::tiny("llama2") / "model.safetensors");
  EXPECT_EQ(facts.at("kind"), "safetensors file");
  EXPECT_THAT(describe(facts), HasSubstr("lm_head.weight"));

  const fs::path folder = test::fresh_folder("inspect_unknown");
  fs::copy(test::tiny("llama2") / "model.safetensors", folder);
  write_text(folder / "config.json", R"({"architectures": ["Gemma2ForCausalLM"]})");
  const Json unknown = inspect(folder);
  EXPECT_FALSE(unknown.contains("memory"));
  EXPECT_THAT(describe(unknown), HasSubstr("not a model that can be run"));
  EXPECT_EQ(unknown.at("tensors"), facts.at("tensors"));
}

TEST(Inspect, SaysWhatIsWrong) {
  const fs::path folder = test::fresh_folder("inspect_refusals");
  const auto error = [](const fs::path& path) { return message_of([&] { inspect(path); }); };
  EXPECT_THAT(error(folder / "nothing"), HasSubstr("no such file or directory"));
  EXPECT_THAT(error(folder), HasSubstr("neither a model"));
  EXPECT_THAT(error(folder), Not(HasSubstr("did you mean")));
  fs::create_directory(folder / "checkpoint-5");
  write_text(folder / "checkpoint-5/adapter_config.json", "{}");
  EXPECT_THAT(error(folder), HasSubstr("did you mean checkpoint-5"));
  write_text(folder / "text", "no tensors here");
  EXPECT_THAT(error(folder / "text"), HasSubstr("text: "));
}

}  // namespace
}  // namespace qlora::run
