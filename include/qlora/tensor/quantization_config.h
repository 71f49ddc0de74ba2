#pragma once
// Section `quantization`: how the frozen base weights are stored. Keys are those of transformers'
// BitsAndBytesConfig.

#include "qlora/base/constraints.h"
#include "qlora/kernels/types.h"

#include <array>
#include <optional>
#include <string>
#include <vector>

namespace qlora::kernels {

constexpr std::array<EnumName<QuantType>, 2> enum_names(QuantType /*tag*/) {
  return {{{QuantType::NF4, "nf4"}, {QuantType::FP4, "fp4"}}};
}

}  // namespace qlora::kernels

namespace qlora::tensor {

// Two defaults differ from BitsAndBytesConfig's, whose fp4 and float32 matmuls surprise its users:
// the type is nf4, and matmuls follow the activations.
struct QuantizationConfig {
  bool load_in_4bit = false;
  kernels::QuantType bnb_4bit_quant_type = kernels::QuantType::NF4;
  bool bnb_4bit_use_double_quant = false;
  std::optional<DType> bnb_4bit_compute_dtype;  // of the quantized linears' matmul
  std::vector<std::string> llm_int8_skip_modules = {"lm_head"};

  template <class V>
  void visit(V&& v) {
    v.field("load_in_4bit", load_in_4bit, "store the base model's linear weights in 4 bits");
    v.field("bnb_4bit_quant_type", bnb_4bit_quant_type, "the 4-bit code");
    v.field("bnb_4bit_use_double_quant", bnb_4bit_use_double_quant,
            "quantize the blocks' absmax values as well (0.37 bit less per weight)");
    v.field("bnb_4bit_compute_dtype", bnb_4bit_compute_dtype,
            "type of the quantized layers' matmul; auto follows the activations", Unset{"auto"});
    v.field("llm_int8_skip_modules", llm_int8_skip_modules,
            "modules that stay dense, by the last part of their name or their full path");
  }
};

}  // namespace qlora::tensor
