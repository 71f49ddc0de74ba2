// The keys of a training run: their defaults, the names they share with other tools, their rules.

#include "qlora/train/run_config.h"

#include "qlora/config/config.h"
#include "support/message.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace qlora::train {
namespace {

using test::message_of;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr const char* kLeast =
    "model: {model_name_or_path: m}\ndata: {train: d.jsonl}\ntraining: {output_dir: out}\n";

RunConfig with(std::vector<std::string> overrides) {
  return config::parse_text<RunConfig>(kLeast, "q.yaml", overrides);
}

std::string error_with(std::vector<std::string> overrides) {
  return message_of([&] { with(overrides); });
}

TEST(RunConfigTest, DefaultsAreThoseOfThePeersButForTheirTraps) {
  const RunConfig run = with({});
  EXPECT_FALSE(run.quantization.load_in_4bit);
  EXPECT_EQ(run.quantization.bnb_4bit_quant_type, kernels::QuantType::NF4);
  EXPECT_FALSE(run.quantization.bnb_4bit_compute_dtype);
  EXPECT_EQ(run.lora.r, 8);
  EXPECT_EQ(run.lora.lora_alpha, 8);
  EXPECT_EQ(run.lora.dtype, DType::Float32);
  EXPECT_EQ(run.lora.target_modules, StringOrList("all-linear"));
  EXPECT_EQ(run.data.max_length, 1024);
  EXPECT_EQ(run.training.seed, 42);
  EXPECT_EQ(run.training.per_device_train_batch_size, 8);
  EXPECT_EQ(run.training.learning_rate, 5e-5);
  EXPECT_EQ(run.training.adam_beta2, 0.999);
  EXPECT_EQ(run.training.max_grad_norm, 1.0);
  EXPECT_EQ(run.training.save_steps, 500);
  EXPECT_EQ(run.training.dataloader_num_workers, 1);
  EXPECT_FALSE(run.training.save_total_limit);
  EXPECT_EQ(run.training.activation_dtype(), DType::Float32);
}

TEST(RunConfigTest, EachRequiredKeyIsMissed) {
  EXPECT_EQ(
      message_of([] { config::parse_text<RunConfig>("", "q.yaml"); }),
      "model.model_name_or_path (q.yaml): missing; expected a text: HF model directory or GGUF "
      "file");
  EXPECT_THAT(error_with({"training.output_dir="}),
              HasSubstr("training.output_dir (command line)"));
}

TEST(RunConfigTest, ActivationTypesExcludeEachOther) {
  EXPECT_EQ(with({"training.fp16=true"}).training.activation_dtype(), DType::Float16);
  EXPECT_EQ(with({"training.bf16=true"}).training.activation_dtype(), DType::BFloat16);
  EXPECT_EQ(
      error_with({"training.fp16=true", "training.bf16=true"}),
      "training.bf16 (command line): fp16 and bf16 are both true; expected one of them at most");
}

TEST(RunConfigTest, NamesOfTheSameOptimizerAreAllRead) {
  EXPECT_EQ(with({"training.optim=adamw_torch_fused"}).training.optim, Optim::AdamwTorch);
  EXPECT_EQ(with({"training.optim=adamw_bnb_8bit"}).training.optim, Optim::Adamw8bit);
  EXPECT_EQ(with({"training.optim=paged_adamw"}).training.optim, Optim::PagedAdamw32bit);
  EXPECT_THAT(error_with({"training.optim=paged_adamw8bit"}),
              HasSubstr("did you mean paged_adamw_8bit?"));
}

TEST(RunConfigTest, InitIsAWordOrABool) {
  EXPECT_EQ(with({"lora.init_lora_weights=false"}).lora.init_lora_weights, nn::LoraInit::Random);
  EXPECT_EQ(with({"lora.init_lora_weights=gaussian"}).lora.init_lora_weights,
            nn::LoraInit::Gaussian);
  EXPECT_THAT(error_with({"lora.init_lora_weights=pissa"}),
              HasSubstr("expected true, gaussian or false, got 'pissa'"));
}

TEST(RunConfigTest, WhatIsNotOfferedIsRefusedInWords) {
  EXPECT_EQ(
      error_with({"training.report_to=wandb"}),
      "training.report_to (command line): expected none, got 'wandb'; nothing is sent anywhere; "
      "metrics are in output_dir/metrics.jsonl");
  EXPECT_THAT(error_with({"lora.bias=all"}), HasSubstr("expected none, got 'all'"));
  EXPECT_THAT(error_with({"lora.task_type=SEQ_CLS"}), HasSubstr("expected CAUSAL_LM"));
}

TEST(RunConfigTest, BoundsAndRulesHold) {
  for (const char* override :
       {"lora.r=0", "lora.lora_dropout=1", "lora.lora_alpha=0", "training.seed=-1",
        "training.gradient_accumulation_steps=0", "training.num_train_epochs=0",
        "training.max_steps=0", "training.max_steps=-2", "training.learning_rate=-1e-4",
        "training.warmup_ratio=1.5", "training.adam_beta1=1", "training.logging_steps=0",
        "training.save_total_limit=0", "training.dataloader_num_workers=-1", "data.max_length=1",
        "training.lr_scheduler_type=cosine_with_min_lr", "quantization.bnb_4bit_quant_type=int4"}) {
    const std::string key(override, std::string_view(override).find('='));
    EXPECT_THAT(error_with({override}), HasSubstr(key + " (command line): ")) << override;
  }
  EXPECT_THAT(error_with({"data.validation=v.jsonl", "data.validation_split=0.1"}),
              HasSubstr("expected one of them at most"));
  EXPECT_EQ(error_with({"data.validation=[{path: v.jsonl, weight: 2}]"}),
            "data.validation (command line): a source has a weight; what is evaluated on counts "
            "once");
  EXPECT_THAT(error_with({"data.train=[a.jsonl, {path: b.jsonl, format: alpacca}]"}),
              AllOf(HasSubstr("data.train[1].format (command line): expected auto, instruction, "),
                    HasSubstr("or null, got 'alpacca'; did you mean alpaca?")));
  const RunConfig run = with({"training.lr_scheduler_type=cosine_with_min_lr",
                              "training.lr_scheduler_kwargs.min_lr_rate=0.1"});
  EXPECT_EQ(run.training.lr_scheduler_kwargs.min_lr_rate, 0.1);
}

TEST(RunConfigTest, StepsBelowOneAreShares) {
  EXPECT_EQ(resolve_steps(10, 100), 10);
  EXPECT_EQ(resolve_steps(1, 100), 1);
  EXPECT_EQ(resolve_steps(0.25, 99), 25);
}

TEST(RunConfigTest, EveryKeyHasHelp) {
  RunConfig run;
  for (const auto& field : config::describe(run).fields)
    EXPECT_FALSE(field.help.empty()) << field.key;
}

}  // namespace
}  // namespace qlora::train
