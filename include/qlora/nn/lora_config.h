#pragma once
// Section `lora`: the adapter. Keys and defaults are those of PEFT's LoraConfig.

#include "qlora/base/constraints.h"

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace qlora::nn {

// How A and B are drawn.
enum class LoraInit {
  Kaiming,   // true: A ~ U(-1/sqrt(in), 1/sqrt(in)), B = 0
  Gaussian,  // "gaussian": A ~ N(0, (1/r)²), B = 0
  Random,    // false: A and B both as a fresh linear layer
};

constexpr std::array<EnumName<LoraInit>, 3> enum_names(LoraInit /*tag*/) {
  return {
      {{LoraInit::Kaiming, "true"}, {LoraInit::Gaussian, "gaussian"}, {LoraInit::Random, "false"}}};
}

// target_modules differs from PEFT's default, a table by architecture that lacks most of them.
struct LoraConfig {
  std::int64_t r = 8;
  std::int64_t lora_alpha = 8;
  double lora_dropout = 0.0;
  StringOrList target_modules = "all-linear";
  std::optional<StringOrList> exclude_modules;
  bool use_rslora = false;
  LoraInit init_lora_weights = LoraInit::Kaiming;
  std::string bias = "none";
  std::string task_type = "CAUSAL_LM";
  std::vector<std::string> modules_to_save;
  DType dtype = DType::Float32;  // of the stored A and B; float16 trains with loss scaling

  template <class V>
  void visit(V&& v) {
    v.field("r", r, "rank of A and B", Range{1, 65536});
    v.field("lora_alpha", lora_alpha, "the update is scaled by lora_alpha / r", at_least(1));
    v.field("lora_dropout", lora_dropout, "dropout on the adapter's input", fraction_below_one());
    v.field("target_modules", target_modules,
            "which linear layers get an adapter: a list of names, a regular expression over the "
            "full path, or all-linear");
    v.field("exclude_modules", exclude_modules,
            "which of them get none: a list of names or a regular expression");
    v.field("use_rslora", use_rslora, "scale by lora_alpha / sqrt(r) instead");
    v.field("init_lora_weights", init_lora_weights,
            "A uniform (true) or gaussian with B zero; false draws both at random");
    v.field("bias", bias, "which biases are trained",
            OneOf{{"none"}, "the base model stays frozen"});
    v.field("task_type", task_type, "what the model is trained for",
            OneOf{{"CAUSAL_LM"}, "only language models are trained"});
    v.field("modules_to_save", modules_to_save,
            "modules that are trained fully and saved with the adapter, e.g. [lm_head]");
    v.field("dtype", dtype, "type of the stored A and B");
  }
};

}  // namespace qlora::nn
