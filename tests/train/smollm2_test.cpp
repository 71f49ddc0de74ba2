// Twenty steps of LoRA on a real model against transformers + PEFT, on the float32 weights and on
// the same weights in NF4.

#include "support/smollm2.h"

#include "qlora/base/json.h"
#include "qlora/models/adapters.h"
#include "qlora/models/load.h"
#include "qlora/optim/adamw.h"

#include <torch/csrc/autograd/autograd.h>

namespace qlora::train {
namespace {

struct Batch {
  at::Tensor ids, labels;  // [1, length] each: the rows have different lengths and no padding
};

std::vector<std::vector<Batch>> read_batches() {
  const auto row = [](const Json& values) {
    const auto list = values.get<std::vector<std::int64_t>>();
    return at::tensor(at::ArrayRef<std::int64_t>(list), at::kLong).unsqueeze(0);
  };
  std::vector<std::vector<Batch>> batches;
  for (const Json& batch : read_json(test::golden_path("smollm2/batches.json"))) {
    auto& rows = batches.emplace_back();
    for (const Json& sample : batch) {
      rows.push_back({row(sample.at("input_ids")), row(sample.at("labels"))});
    }
  }
  return batches;
}

std::unique_ptr<models::CausalLM> model_with_adapter(const std::string& base) {
  tensor::QuantizationConfig quantization;
  quantization.load_in_4bit = base != "float32";
  quantization.bnb_4bit_use_double_quant = base == "nf4_double";
  auto model = models::load(test::smollm2_path(), {.quantization = quantization});
  nn::LoraConfig lora;
  lora.r = 8;
  lora.lora_alpha = 16;
  models::attach_lora(*model, models::to_adapter_config(lora, ""), DType::Float32, 0);
  std::uint64_t stream = 3000;
  for (const auto& p : models::trainable_parameters(*model)) {
    const bool is_a = p.name.ends_with("lora_A.weight");
    test::fill_uniform(p.value, stream++, is_a ? 1.0f / 32 : 1.0f / 64);
  }
  return model;
}

// Loss and gradients of one update, token-exact over its rows.
double accumulate(models::CausalLM& model, const std::vector<Batch>& rows) {
  std::int64_t count = 0;
  for (const Batch& row : rows)
    count += (row.labels.slice(1, 1) != -100).sum().item<std::int64_t>();
  double sum = 0;
  for (const Batch& row : rows) {
    const at::Tensor loss = model.loss_sum(model.hidden_states(row.ids, {}), row.labels, {});
    torch::autograd::backward({loss / static_cast<double>(count)});
    sum += loss.item<double>();
  }
  return sum / static_cast<double>(count);
}

class SmolLm2Training : public testing::TestWithParam<const char*> {};

std::vector<double> losses_of(const Json& run) {
  return run.at("losses").get<std::vector<double>>();
}

double relative_error(double actual, double expected) { return std::abs(actual / expected - 1); }

// The same twenty steps by PEFT in double precision are what float32 runs approximate. On NF4
// weights PEFT's own float32 run is up to 1.07e-5 away from them, so that only on the float32 base
// can both be met within 1e-5.
TEST_P(SmolLm2Training, TwentyLossesEqualPeft) {
  QLORA_REQUIRE_DATA(test::smollm2_path());
  const Json golden = read_json(test::golden_path("smollm2/training.json")).at(GetParam());
  const auto exact = losses_of(golden.at("float64"));
  const auto peer = losses_of(golden);
  const auto model = model_with_adapter(GetParam());
  optim::AdamW optimizer(models::trainable_parameters(*model),
                         {.eight_bit = false, .weight_decay = 0.01});
  const auto batches = read_batches();
  ASSERT_EQ(batches.size(), exact.size());
  double worst = 0, peers_worst = 0;
  for (std::size_t step = 0; step < batches.size(); ++step) {
    const double loss = accumulate(*model, batches[step]);
    worst = std::max(worst, relative_error(loss, exact[step]));
    peers_worst = std::max(peers_worst, relative_error(peer[step], exact[step]));
    EXPECT_LT(relative_error(loss, exact[step]), 1e-5) << "step " << step;
    if (GetParam() == std::string("float32")) {
      EXPECT_LT(relative_error(loss, peer[step]), 1e-5) << "step " << step;
    }
    optimizer.step(2e-4);
  }
  EXPECT_LE(worst, peers_worst);
  RecordProperty("worst_relative_error", fmt::format("{:.1e}", worst));
}

INSTANTIATE_TEST_SUITE_P(Bases, SmolLm2Training, testing::Values("float32", "nf4", "nf4_double"));

TEST(SmolLm2Update, GradientNormEqualsPeft) {
  QLORA_REQUIRE_DATA(test::smollm2_path());
  const Json golden = read_json(test::golden_path("smollm2/training.json"));
  const auto model = model_with_adapter("float32");
  optim::AdamW optimizer(models::trainable_parameters(*model), {});
  const double loss = accumulate(*model, read_batches().front());
  const Json& expected = golden.at("accumulation").at("one_batch_of_2");
  EXPECT_NEAR(loss / expected.at("loss").get<double>(), 1.0, 1e-5);
  optimizer.step(2e-4);
  EXPECT_NEAR(optimizer.outcome().gradient_norm / expected.at("gradient_norm").get<double>(), 1.0,
              1e-5);
}

}  // namespace
}  // namespace qlora::train
