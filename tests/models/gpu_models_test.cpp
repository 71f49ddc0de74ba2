// The plain path on a GPU against the same goldens, and quantized storage against the CPU's.

#include "qlora/base/error.h"
#include "qlora/models/adapters.h"
#include "qlora/models/load.h"
#include "support/gpu.h"
#include "support/tensor_golden.h"

#include <torch/csrc/autograd/autograd.h>

namespace qlora::models {
namespace {

constexpr const char* kFamilies[] = {"llama2", "llama3", "mistral", "qwen2", "qwen3", "exaone"};

TEST(GpuModels, EveryFamilysLogitsInFloat32) {
  QLORA_REQUIRE_GPU();
  for (const char* family : kFamilies) {
    const auto golden = test::read_golden(std::string("tiny/") + family + "/golden.safetensors");
    const auto model = load(test::golden_path("tiny") / family, {.device = test::kGpu});
    const at::Tensor hidden = model->hidden_states(golden.at("input_ids").to(test::kGpu), {});
    const at::Tensor mask = golden.at("attention_mask").unsqueeze(2);
    const at::Tensor logits = model->logits(hidden, {}).cpu() * mask;
    EXPECT_LT(test::scaled_error(logits, golden.at("logits")), 1e-5) << family;
  }
}

TEST(GpuModels, AnEmbeddingOnTheHostGivesTheSame) {
  QLORA_REQUIRE_GPU();
  const auto path = test::golden_path("tiny/llama2");
  const at::Tensor ids = at::arange(7, at::TensorOptions(test::kGpu).dtype(at::kLong)).view({1, 7});
  const auto hidden = [&](bool on_host) {
    const auto model = load(path, {.device = test::kGpu, .embedding_on_host = on_host});
    EXPECT_EQ(model->device(), test::kGpu);
    return model->hidden_states(ids, {});
  };
  EXPECT_TRUE(at::equal(hidden(true), hidden(false)));
  const auto model = load(path, {.device = test::kGpu, .embedding_on_host = true});
  const std::int64_t embedding = model->config().vocab_size * model->config().hidden_size;
  EXPECT_EQ(count_parameters(*load(path, {.device = test::kGpu})).weight_bytes -
                count_parameters(*model).weight_bytes,
            4 * embedding);
  nn::LoraConfig lora;
  lora.modules_to_save = {"embed_tokens"};
  EXPECT_THROW(attach_lora(*model, to_adapter_config(lora, "base"), DType::Float32, 1), Error);
}

TEST(GpuModels, QuantizedOnTheGpuHasTheCpusBytes) {
  QLORA_REQUIRE_GPU();
  tensor::QuantizationConfig quantization;
  quantization.load_in_4bit = true;
  quantization.bnb_4bit_use_double_quant = true;
  const auto bytes = [&](c10::Device device) {
    std::vector<at::Tensor> parts;
    const auto model =
        load(test::golden_path("tiny/llama2"), {.quantization = quantization, .device = device});
    model->visit({.linear =
                      [&](const std::string&, nn::Linear& m) {
                        if (!m.quantized()) return;
                        parts.push_back(m.quantized()->packed.cpu());
                        parts.push_back(m.quantized()->absmax_codes.cpu());
                        parts.push_back(m.quantized()->nested_absmax.cpu());
                        parts.push_back(m.quantized()->dequantize(at::kBFloat16).cpu());
                      },
                  .embedding = {},
                  .norm = {}});
    return parts;
  };
  const auto on_cpu = bytes(c10::kCPU);
  const auto on_gpu = bytes(test::kGpu);
  ASSERT_EQ(on_cpu.size(), on_gpu.size());
  for (std::size_t i = 0; i < on_cpu.size(); ++i) {
    EXPECT_TRUE(at::equal(on_cpu[i], on_gpu[i])) << i;
  }
}

}  // namespace
}  // namespace qlora::models
