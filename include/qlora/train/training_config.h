#pragma once
// Section `training`. Keys and defaults are those of transformers' TrainingArguments.

#include "qlora/base/constraints.h"
#include "qlora/optim/schedule.h"

#include <array>
#include <cmath>
#include <cstdint>
#include <optional>
#include <string>

namespace qlora::train {

enum class Optim { AdamwTorch, Adamw8bit, PagedAdamw8bit, PagedAdamw32bit };

// transformers has several names for the same mathematics; all are read.
constexpr std::array<EnumName<Optim>, 7> enum_names(Optim /*tag*/) {
  using enum Optim;
  return {{{AdamwTorch, "adamw_torch"},
           {Adamw8bit, "adamw_8bit"},
           {PagedAdamw8bit, "paged_adamw_8bit"},
           {PagedAdamw32bit, "paged_adamw_32bit"},
           {AdamwTorch, "adamw_torch_fused"},
           {Adamw8bit, "adamw_bnb_8bit"},
           {PagedAdamw32bit, "paged_adamw"}}};
}

// When something is done: never, every so many steps, or after each epoch.
enum class IntervalStrategy { No, Steps, Epoch };

constexpr std::array<EnumName<IntervalStrategy>, 3> enum_names(IntervalStrategy /*tag*/) {
  using enum IntervalStrategy;
  return {{{No, "no"}, {Steps, "steps"}, {Epoch, "epoch"}}};
}

// Section `training.lr_scheduler_kwargs`.
struct LrSchedulerKwargs {
  std::optional<double> min_lr_rate;

  template <class V>
  void visit(V&& v) {
    v.field("min_lr_rate", min_lr_rate,
            "cosine_with_min_lr: the last learning rate as a share of learning_rate", fraction());
  }
};

// Differs from TrainingArguments in logging_steps (there 500) and in that output_dir must be given.
struct TrainingConfig {
  std::string output_dir;
  std::int64_t seed = 42;
  std::optional<std::int64_t> data_seed;
  std::int64_t per_device_train_batch_size = 8;
  std::int64_t per_device_eval_batch_size = 8;
  std::int64_t gradient_accumulation_steps = 1;
  double num_train_epochs = 3.0;
  std::int64_t max_steps = -1;
  double learning_rate = 5e-5;
  optim::LrSchedulerType lr_scheduler_type = optim::LrSchedulerType::Linear;
  LrSchedulerKwargs lr_scheduler_kwargs;
  double warmup_ratio = 0.0;
  std::int64_t warmup_steps = 0;
  Optim optim = Optim::AdamwTorch;
  double weight_decay = 0.0;
  double adam_beta1 = 0.9;
  double adam_beta2 = 0.999;
  double adam_epsilon = 1e-8;
  double max_grad_norm = 1.0;
  bool fp16 = false;
  bool bf16 = false;
  bool gradient_checkpointing = false;
  bool fused = true;
  std::optional<double> memory_limit;
  std::optional<bool> activation_offloading;
  bool embedding_offloading = false;
  bool deterministic = false;
  bool group_by_length = false;
  std::optional<double> neftune_noise_alpha;
  std::int64_t dataloader_num_workers = 1;
  double logging_steps = 10;
  IntervalStrategy save_strategy = IntervalStrategy::Steps;
  double save_steps = 500;
  std::optional<std::int64_t> save_total_limit;
  IntervalStrategy eval_strategy = IntervalStrategy::No;
  std::optional<double> eval_steps;
  std::string report_to = "none";

  // Of the activations: float32 where neither fp16 nor bf16 is set.
  DType activation_dtype() const {
    return fp16 ? DType::Float16 : bf16 ? DType::BFloat16 : DType::Float32;
  }

  template <class V>
  void visit(V&& v) {
    visit_run(v);
    visit_optimizer(v);
    visit_speed(v);
    visit_reports(v);
  }

 private:
  template <class V>
  void visit_run(V& v) {
    v.field("output_dir", output_dir, "folder of the checkpoints and metrics", Required{});
    v.field("seed", seed, "names every random decision", at_least(0));
    v.field("data_seed", data_seed, "order of the data; null is seed", at_least(0));
    v.field("per_device_train_batch_size", per_device_train_batch_size,
            "samples in a forward pass on one device", at_least(1));
    v.field("per_device_eval_batch_size", per_device_eval_batch_size, "the same for evaluation",
            at_least(1));
    v.field("gradient_accumulation_steps", gradient_accumulation_steps, "batches of one update",
            at_least(1));
    v.field("num_train_epochs", num_train_epochs, "passes over the data, may be fractional",
            above(0));
    v.field("max_steps", max_steps, "updates; -1 goes by num_train_epochs", at_least(-1));
    v.check(max_steps != 0, "max_steps", "expected -1 or at least 1, got 0");
  }

  template <class V>
  void visit_optimizer(V& v) {
    v.field("learning_rate", learning_rate, "peak learning rate", at_least(0));
    v.field("lr_scheduler_type", lr_scheduler_type, "how the learning rate moves");
    v.section("lr_scheduler_kwargs", lr_scheduler_kwargs, "extra settings of the schedule");
    v.check(lr_scheduler_type != optim::LrSchedulerType::CosineWithMinLr ||
                lr_scheduler_kwargs.min_lr_rate.has_value(),
            "lr_scheduler_type", "cosine_with_min_lr also needs lr_scheduler_kwargs.min_lr_rate");
    v.field("warmup_ratio", warmup_ratio, "share of all updates over which the rate rises",
            fraction());
    v.field("warmup_steps", warmup_steps, "the same in updates; over 0 it wins", at_least(0));
    v.field("optim", optim, "the optimizer");
    v.field("weight_decay", weight_decay, "decoupled weight decay", at_least(0));
    v.field("adam_beta1", adam_beta1, "decay of the first moment", fraction_below_one());
    v.field("adam_beta2", adam_beta2, "decay of the second moment", fraction_below_one());
    v.field("adam_epsilon", adam_epsilon, "added to the denominator", at_least(0));
    v.field("neftune_noise_alpha", neftune_noise_alpha,
            "noise on the embeddings, uniform up to this over the root of (a sample's tokens x "
            "hidden_size); 5 is usual, null is none",
            at_least(0));
    v.field("max_grad_norm", max_grad_norm, "gradients are clipped to this norm; 0 is off",
            at_least(0));
  }

  template <class V>
  void visit_speed(V& v) {
    v.field("fp16", fp16, "float16 activations, with loss scaling");
    v.field("bf16", bf16, "bfloat16 activations");
    v.check(!(fp16 && bf16), "bf16", "fp16 and bf16 are both true; expected one of them at most");
    v.field("gradient_checkpointing", gradient_checkpointing,
            "recompute each block in the backward pass: less memory, a third more time");
    v.field("fused", fused,
            "train by fused kernels and CUDA graphs where the model and the settings allow it");
    v.field("memory_limit", memory_limit,
            "GiB of GPU memory that the fused path may fill, recomputing what does not fit (it "
            "passes over gradient_checkpointing); null is what the card has free",
            above(0));
    v.field("activation_offloading", activation_offloading,
            "on the fused path: keep the layers' inputs in host memory until the backward pass; "
            "null does so where it spares recomputing attention, or nothing else fits");
    v.field(
        "embedding_offloading", embedding_offloading,
        "keep the input embedding in host memory, from where the fused path fetches the rows of "
        "each batch; not for models whose output projection is tied to it");
    v.field("deterministic", deterministic,
            "on the fused path: the same bits in every run, for slower attention and products");
    v.field("group_by_length", group_by_length, "batch samples of similar length");
    v.field("dataloader_num_workers", dataloader_num_workers,
            "threads that prepare batches ahead, so that no device waits for them; 0 prepares "
            "them in place (data_wait_seconds in metrics.jsonl says how long training waited)",
            Range{0, 256});
  }

  template <class V>
  void visit_reports(V& v) {
    v.field("logging_steps", logging_steps, "a metrics line every so many updates", StepsOrShare{});
    v.field("save_strategy", save_strategy, "when a checkpoint is written");
    v.field("save_steps", save_steps, "a checkpoint every so many updates", StepsOrShare{});
    v.field("save_total_limit", save_total_limit, "older checkpoints are deleted; null keeps all",
            at_least(1));
    v.field("eval_strategy", eval_strategy, "when the validation loss is measured");
    v.field("eval_steps", eval_steps, "an evaluation every so many updates; null is logging_steps",
            StepsOrShare{});
    v.field("report_to", report_to, "experiment tracker",
            OneOf{{"none"}, "nothing is sent anywhere; metrics are in output_dir/metrics.jsonl"});
  }
};

// logging_steps, save_steps and eval_steps as whole updates: below 1 they are shares of all.
inline std::int64_t resolve_steps(double steps, std::int64_t max_steps) {
  return static_cast<std::int64_t>(steps < 1 ? std::ceil(static_cast<double>(max_steps) * steps)
                                             : steps);
}

}  // namespace qlora::train
