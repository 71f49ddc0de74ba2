#pragma once
// Section `model`: which pretrained model is trained.

#include "qlora/base/constraints.h"

#include <string>

namespace qlora::models {

struct ModelSettings {
  std::string path;

  template <class V>
  void visit(V&& v) {
    v.field("model_name_or_path", path, "HF model directory or GGUF file", Required{});
  }
};

}  // namespace qlora::models
