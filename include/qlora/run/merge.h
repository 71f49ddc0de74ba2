#pragma once
// An adapter into its base: W' = W + scaling · B · A in float32, rounded once.

#include "qlora/base/dtype.h"
#include "qlora/run/training_base.h"

#include <cstdint>
#include <string>

namespace qlora::run {

struct MergeOptions {
  std::string base = "";
  std::string adapter = "";
  std::string output = "";
  DType dtype = DType::BFloat16;
  BaseWeights base_weights = BaseWeights::Training;
  bool overwrite = false;

  template <class V>
  void visit(V&& v) {
    v.field("base", base, "HF model directory or GGUF file", Required{});
    v.field("adapter", adapter, "directory of the LoRA adapter", Required{});
    v.field("output", output, "directory to write the merged model to", Required{});
    v.field("dtype", dtype, "type of the merged weights");
    v.field("base_weights", base_weights,
            "merge into the base as it was quantized in training, or into the original weights");
    v.field("overwrite", overwrite, "replace a model that is already in the output directory");
  }
};

// Over the linear layers that carry an adapter; the norms are Frobenius norms.
struct MergeReport {
  std::int64_t adapted = 0;        // weights with a low-rank update
  std::int64_t replaced = 0;       // tensors of modules_to_save
  double relative_change = 0;      // |dW| / |W| over all adapted weights
  double max_relative_change = 0;  // of one weight
  std::string most_changed;        // its name
  double rounding_error = 0;       // |round(W') - W'| / |W'| over all adapted weights
};

// Writes an HF model directory: safetensors, config.json, tokenizer. Works through one tensor at a
// time. The output appears only when complete. Throws Error before it writes anything where base
// and adapter do not fit.
MergeReport merge(const MergeOptions& options);

}  // namespace qlora::run
