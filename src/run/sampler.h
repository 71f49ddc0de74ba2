#pragma once
// One token from a row of logits.

#include "qlora/run/generate.h"

#include <span>

namespace qlora::run {

// Draws with softmax(logits / temperature), cut to the top_k likeliest tokens and then to the
// smallest set of likeliest tokens whose probability reaches top_p. Equal logits go by their id.
// `draw`: uniform in [0, 1). config.temperature is above 0 and every logit finite.
std::int32_t sample_token(std::span<const float> logits, const GenerationConfig& config,
                          double draw);

}  // namespace qlora::run
