#pragma once
// What programs that use a model have in common: which one, on which device, in which type.

#include "qlora/models/causal_lm.h"
#include "qlora/run/training_base.h"
#include "qlora/text/tokenizer.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace qlora::run {

struct SessionOptions {
  std::string model = "";
  std::string adapter = "";
  BaseWeights base_weights = BaseWeights::Training;
  std::string device = "auto";
  std::optional<DType> dtype = std::nullopt;

  template <class V>
  void visit(V&& v) {
    v.field("model", model, "HF model directory or GGUF file", Required{});
    v.field("adapter", adapter, "directory of a LoRA adapter to put on it");
    v.field("base_weights", base_weights,
            "under the adapter: quantized as in its training, or the original weights");
    v.field("device", device, "where to run", OneOf{{"auto", "cpu", "cuda"}, ""});
    v.field("dtype", dtype,
            "type of the activations; auto: float32 on the CPU, else as trained or as stored",
            Unset{"auto"});
  }
};

struct Session {
  std::unique_ptr<models::CausalLM> model;
  std::unique_ptr<text::Tokenizer> tokenizer;
  std::string chat_template;           // the adapter's, else the model's; empty without one
  std::vector<std::int32_t> stop_ids;  // what ends an answer: the tokenizer's and the model's say
};

// Throws Error: no such model, an adapter that does not fit, a device that is not there.
Session open_session(const SessionOptions& options);

// Replaces the 4-bit weights of a model on the CPU by the same values, dense, in `dtype`: a CPU has
// no kernel that multiplies packed weights, and dequantizing them again for every token is slower
// than the product itself. Leaves the model as it is where memory is short or nothing is packed.
void unpack_weights(models::CausalLM& model, DType dtype);

}  // namespace qlora::run
