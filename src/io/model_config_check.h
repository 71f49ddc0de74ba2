#pragma once
// The checks that every ModelConfig passes, wherever it was read.

#include "qlora/io/model_config.h"

#include <string_view>

namespace qlora::io {

// Throws Error unless sizes are positive, within bounds that no real model reaches, and fit each
// other.
void check_model_config(const ModelConfig& config, std::string_view where);

}  // namespace qlora::io
