// The shipped configurations state what their recipes state, value by value.

#include "qlora/config/config.h"
#include "qlora/train/run_config.h"
#include "support/test_data.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace qlora::train {
namespace {

using ::testing::ElementsAre;

RunConfig read_recipe(const std::string& name) {
  return config::read<RunConfig>(test::source_path("configs/" + name));
}

std::vector<std::string> targets_of(const RunConfig& run) {
  return std::get<std::vector<std::string>>(run.lora.target_modules);
}

TEST(RecipesTest, Exaone) {
  const RunConfig run = read_recipe("qlora_exaone.yaml");
  EXPECT_EQ(run.model.path, "models/EXAONE-3.5-2.4B-Instruct");
  EXPECT_TRUE(run.quantization.load_in_4bit);
  EXPECT_TRUE(run.quantization.bnb_4bit_use_double_quant);
  EXPECT_EQ(run.quantization.bnb_4bit_quant_type, kernels::QuantType::NF4);
  EXPECT_EQ(run.quantization.bnb_4bit_compute_dtype, DType::BFloat16);
  EXPECT_EQ(run.lora.task_type, "CAUSAL_LM");
  EXPECT_EQ(run.lora.r, 16);
  EXPECT_EQ(run.lora.lora_alpha, 32);
  EXPECT_EQ(run.lora.lora_dropout, 0.1);
  EXPECT_THAT(targets_of(run), ElementsAre("q_proj", "k_proj", "v_proj", "out_proj"));
  EXPECT_EQ(run.lora.bias, "none");
  EXPECT_TRUE(run.lora.use_rslora);
  EXPECT_EQ(run.lora.init_lora_weights, nn::LoraInit::Gaussian);
  EXPECT_EQ(run.data.train.at(0).path, "datasets/nubyeoul_ko/train.jsonl");
  EXPECT_EQ(run.data.max_length, 1024);
  EXPECT_EQ(run.training.per_device_train_batch_size, 2);
  EXPECT_EQ(run.training.gradient_accumulation_steps, 8);
  EXPECT_EQ(run.training.num_train_epochs, 3);
  EXPECT_EQ(run.training.max_steps, -1);
  EXPECT_EQ(run.training.learning_rate, 5e-5);
  EXPECT_EQ(run.training.lr_scheduler_type, optim::LrSchedulerType::Cosine);
  EXPECT_EQ(run.training.optim, Optim::PagedAdamw8bit);
  EXPECT_EQ(run.training.max_grad_norm, 0.3);
  EXPECT_EQ(run.training.weight_decay, 0.01);
  EXPECT_TRUE(run.training.bf16);
  EXPECT_FALSE(run.training.fp16);
  EXPECT_TRUE(run.training.gradient_checkpointing);
  EXPECT_TRUE(run.training.group_by_length);
  EXPECT_EQ(run.training.dataloader_num_workers, 4);
  EXPECT_EQ(run.training.save_strategy, IntervalStrategy::Epoch);
  EXPECT_EQ(run.training.logging_steps, 10);
  EXPECT_EQ(run.training.seed, 42);
  EXPECT_EQ(run.training.report_to, "none");
}

TEST(RecipesTest, Llama2) {
  const RunConfig run = read_recipe("qlora_llama2.yaml");
  EXPECT_EQ(run.model.path, "models/Llama-2-7b-hf");
  EXPECT_TRUE(run.quantization.load_in_4bit);
  EXPECT_EQ(run.quantization.bnb_4bit_quant_type, kernels::QuantType::NF4);
  EXPECT_EQ(run.quantization.bnb_4bit_compute_dtype, DType::BFloat16);
  EXPECT_TRUE(run.quantization.bnb_4bit_use_double_quant);
  EXPECT_EQ(run.lora.r, 16);
  EXPECT_EQ(run.lora.lora_alpha, 32);
  EXPECT_THAT(targets_of(run), ElementsAre("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj",
                                           "up_proj", "down_proj"));
  EXPECT_EQ(run.lora.lora_dropout, 0.05);
  EXPECT_EQ(run.lora.bias, "none");
  EXPECT_EQ(run.lora.task_type, "CAUSAL_LM");
  EXPECT_FALSE(run.lora.use_rslora);
  EXPECT_EQ(run.lora.init_lora_weights, nn::LoraInit::Kaiming);
  EXPECT_EQ(run.data.format, data::DataFormat::Auto);
  EXPECT_EQ(run.data.prompt_template, "dolly");
  EXPECT_EQ(run.data.max_length, 512);
  EXPECT_EQ(run.training.output_dir, "./qlora_output");
  EXPECT_EQ(run.training.num_train_epochs, 3);
  EXPECT_EQ(run.training.per_device_train_batch_size, 4);
  EXPECT_EQ(run.training.gradient_accumulation_steps, 4);
  EXPECT_EQ(run.training.learning_rate, 2e-4);
  EXPECT_EQ(run.training.lr_scheduler_type, optim::LrSchedulerType::Linear);
  EXPECT_EQ(run.training.warmup_ratio, 0.03);
  EXPECT_EQ(run.training.logging_steps, 10);
  EXPECT_EQ(run.training.save_strategy, IntervalStrategy::Epoch);
  EXPECT_TRUE(run.training.fp16);
  EXPECT_FALSE(run.training.bf16);
  EXPECT_EQ(run.training.optim, Optim::PagedAdamw8bit);
  EXPECT_EQ(run.training.max_grad_norm, 1.0);
}

TEST(RecipesTest, Quickstart) {
  const RunConfig run = read_recipe("quickstart.yaml");
  EXPECT_EQ(run.model.path, "models/SmolLM2-135M-Instruct.Q4_1.gguf");
  EXPECT_TRUE(run.quantization.load_in_4bit);
  EXPECT_EQ(run.quantization.bnb_4bit_quant_type, kernels::QuantType::NF4);
  EXPECT_TRUE(run.quantization.bnb_4bit_use_double_quant);
  EXPECT_EQ(run.lora.target_modules, StringOrList("all-linear"));
  EXPECT_EQ(run.data.train.at(0).path, "datasets/mossvane_en/train.jsonl");
  EXPECT_TRUE(std::filesystem::exists(test::source_path("datasets/mossvane_en/train.jsonl")));
  EXPECT_EQ(run.training.activation_dtype(), DType::Float32);
}

TEST(RecipesTest, EachReadsBackFromItsDump) {
  for (const char* name : {"qlora_exaone.yaml", "qlora_llama2.yaml", "quickstart.yaml"}) {
    const std::string text = config::dump(read_recipe(name));
    EXPECT_EQ(config::dump(config::parse_text<RunConfig>(text, "dump")), text) << name;
  }
}

}  // namespace
}  // namespace qlora::train
