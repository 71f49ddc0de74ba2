#pragma once
// A dense model into a 4-bit checkpoint in bitsandbytes' serialisation (qlora/io/bnb.h), which
// transformers loads too.

#include "qlora/tensor/quantization_config.h"

#include <cstdint>
#include <string>

namespace qlora::run {

struct QuantizeOptions {
  std::string model = "";
  std::string output = "";
  kernels::QuantType type = kernels::QuantType::NF4;
  bool double_quant = false;
  bool overwrite = false;

  template <class V>
  void visit(V&& v) {
    v.field("model", model, "HF model directory or GGUF file", Required{});
    v.field("output", output, "directory to write the quantized model to", Required{});
    v.field("type", type, "the 4-bit code");
    v.field("double_quant", double_quant, "quantize the blocks' scales as well");
    v.field("overwrite", overwrite, "replace a model that is already in the output directory");
  }
};

struct QuantizeReport {
  std::int64_t quantized = 0;     // weights in 4 bits
  std::int64_t stored_bytes = 0;  // of all tensors written
  double relative_error = 0;      // |Q(W) - W| / |W| over them, Frobenius norms
};

// Quantizes every linear layer but the output projection; everything else keeps the checkpoint's
// own type. Works through one tensor at a time; the output appears only when complete. Loading it
// gives the model that loading the original with the same quantization gives, bit for bit.
QuantizeReport quantize_model(const QuantizeOptions& options);

}  // namespace qlora::run
