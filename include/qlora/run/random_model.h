#pragma once
// A checkpoint of a model's real shape with random weights, for tests of speed and memory.

#include "qlora/base/constraints.h"

#include <cstdint>
#include <string>

namespace qlora::run {

struct RandomModelOptions {
  std::string config = "";
  std::string output = "";
  std::string tokenizer = "";
  DType dtype = DType::BFloat16;
  std::int64_t seed = 42;
  bool overwrite = false;

  template <class V>
  void visit(V&& v) {
    v.field("config", config, "config.json of the model", Required{});
    v.field("output", output, "directory to write the model to", Required{});
    v.field("tokenizer", tokenizer, "directory or file of a tokenizer to put beside the weights");
    v.field("dtype", dtype, "type of the weights");
    v.field("seed", seed, "names the random weights", at_least(0));
    v.field("overwrite", overwrite, "replace a model that is already in the output directory");
  }
};

// Weights are normal with config.json's initializer_range (0.02), biases 0, norms 1. Every tensor
// is a function of its name and the seed. Returns the bytes written.
std::int64_t make_random_model(const RandomModelOptions& options);

}  // namespace qlora::run
