#pragma once
// What both twins of the LoRA products with dropout share.

#include "dropout_math.h"
#include "qlora/kernels/lora_dropout.h"

#include <initializer_list>

namespace qlora::kernels {

// The rule of each part; checks the layout.
std::array<DropoutRule, kMaxParts> lora_dropout_rules(const LoraDropout& lora);

// float16 or bfloat16, and every row on a 16-byte boundary.
void check_tensor_core_rows(DType dtype, std::initializer_list<ConstRows> matrices);

}  // namespace qlora::kernels
