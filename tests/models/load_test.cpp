#include "qlora/models/load.h"

#include "qlora/base/error.h"
#include "qlora/base/file.h"
#include "qlora/io/hf_checkpoint.h"
#include "qlora/models/adapters.h"
#include "qlora/tensor/bridge.h"
#include "support/tensor_golden.h"

namespace qlora::models {
namespace {

namespace fs = std::filesystem;

std::string error_of(const fs::path& model, const LoadOptions& options = {}) {
  try {
    load(model, options);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

tensor::QuantizationConfig nf4() {
  tensor::QuantizationConfig config;
  config.load_in_4bit = true;
  config.bnb_4bit_use_double_quant = true;
  return config;
}

TEST(Load, QuantizesEveryLinearButTheHead) {
  const auto model = load(test::golden_path("tiny/llama2"), {.quantization = nf4()});
  std::int64_t quantized = 0;
  model->visit({.linear =
                    [&](const std::string& path, nn::Linear& m) {
                      EXPECT_EQ(m.quantized() == nullptr, path == "lm_head") << path;
                      quantized += m.quantized() != nullptr;
                    },
                .embedding = {},
                .norm = {}});
  EXPECT_EQ(quantized, 14);
}

TEST(Load, ATiedEmbeddingCannotStayOnTheHost) {
  const LoadOptions options{.embedding_on_host = true};
  EXPECT_EQ(error_of(test::golden_path("tiny/llama2"), options), "no error");
  EXPECT_NE(error_of(test::golden_path("tiny/llama3"), options).find("the output projection, too"),
            std::string::npos);
}

TEST(Load, SkippedModulesStayDense) {
  tensor::QuantizationConfig config = nf4();
  config.llm_int8_skip_modules = {"lm_head", "down_proj"};
  const auto model = load(test::golden_path("tiny/llama2"), {.quantization = config});
  model->visit({.linear =
                    [](const std::string& path, nn::Linear& m) {
                      const bool skipped = path == "lm_head" || path.ends_with(".down_proj");
                      EXPECT_EQ(m.quantized() == nullptr, skipped) << path;
                    },
                .embedding = {},
                .norm = {}});
}

TEST(Load, ActivationTypesGiveNearbyLogits) {
  const auto golden = test::read_golden("tiny/llama3/golden.safetensors");
  const at::Tensor& ids = golden.at("input_ids");
  const at::Tensor mask = golden.at("attention_mask").unsqueeze(2);
  const nn::ForwardContext context;
  for (const auto& [dtype, tolerance] :
       {std::pair{DType::BFloat16, 0.03}, {DType::Float16, 0.004}}) {
    const auto model = load(test::golden_path("tiny/llama3"), {.dtype = dtype});
    const at::Tensor hidden = model->hidden_states(ids, context);
    EXPECT_EQ(hidden.scalar_type(), tensor::scalar_type(dtype));
    // 8 and 11 bits of mantissa through two layers.
    EXPECT_LT(test::scaled_error(model->logits(hidden, context) * mask, golden.at("logits")),
              tolerance);
  }
}

// A copy of a tiny model whose one tensor has another shape or is gone.
fs::path spoiled(const std::string& tensor, bool remove) {
  const fs::path folder = test::fresh_folder("spoiled");
  fs::copy_file(test::golden_path("tiny/llama2/config.json"), folder / "config.json");
  auto tensors = test::read_golden("tiny/llama2/model.safetensors");
  tensors.at(tensor) = at::zeros({3, 5});
  if (remove) tensors.erase(tensor);
  std::vector<tensor::Parameter> list;
  for (const auto& [name, value] : tensors) list.push_back({name, value, false});
  tensor::write_tensors(folder / "model.safetensors", list);
  return folder;
}

TEST(Load, ErrorsNameTensorFileAndShapes) {
  const std::string name = "model.layers.1.mlp.up_proj.weight";
  const std::string misshaped = error_of(spoiled(name, false));
  EXPECT_NE(misshaped.find(name), std::string::npos) << misshaped;
  EXPECT_NE(misshaped.find("[3, 5]"), std::string::npos) << misshaped;
  const std::string missing = error_of(spoiled(name, true));
  EXPECT_NE(missing.find(name), std::string::npos) << missing;
  EXPECT_NE(missing.find("spoiled"), std::string::npos) << missing;
}

TEST(Load, MissingDirectorySaysHowToFetchOne) {
  const std::string message = error_of("no/such/model");
  EXPECT_NE(message.find("no/such/model"), std::string::npos) << message;
  EXPECT_EQ(message.find('\n'), std::string::npos);
}

TEST(Load, UnknownArchitectureListsTheKnown) {
  const fs::path folder = test::fresh_folder("unknown");
  write_text(folder / "config.json",
             R"({"architectures": ["MambaForCausalLM"], "model_type": "mamba"})");
  const std::string message = error_of(folder);
  EXPECT_NE(message.find("MambaForCausalLM"), std::string::npos) << message;
  EXPECT_NE(message.find("LlamaForCausalLM"), std::string::npos) << message;
}

TEST(Load, TooLongContextIsRefused) {
  const auto model = load(test::golden_path("tiny/llama2"), {});
  const auto limit = model->config().max_position_embeddings;
  const at::Tensor ids = at::zeros({1, limit + 1}, at::kLong);
  EXPECT_THROW(model->hidden_states(ids, {}), Error);
}

}  // namespace
}  // namespace qlora::models
