#pragma once
// Small Llamas on the GPU, the same ones in float64 on the CPU, and how near to these the fused
// path comes.

#include "qlora/io/peft.h"
#include "qlora/models/fused_llama.h"
#include "support/gpu.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace qlora::models::fused_test {

// Real layers' proportions in small: head sizes, grouped and single heads, an intermediate size
// that is no multiple of 8, biases, q/k norm, tied and untied output.
struct Family {
  const char* name;
  const char* type;
  std::int64_t hidden, intermediate, heads, key_heads, head_dim;
  bool tied;
};
inline constexpr Family kFusedFamilies[] = {
    {"llama_64", "llama", 256, 344, 4, 4, 64, false},
    {"llama_80_grouped", "llama", 320, 512, 4, 1, 80, true},
    {"llama_128_grouped", "llama", 256, 172, 2, 1, 128, false},
    {"qwen2_bias", "qwen2", 256, 512, 4, 2, 64, true},
    {"qwen3_norm", "qwen3", 256, 512, 4, 2, 128, false},
};

inline constexpr std::int64_t kVocabulary = 300;
inline constexpr std::int64_t kPositions = 256;  // most tokens of a row
inline constexpr std::size_t kLayers = 4;

struct BatchShape {
  std::int64_t rows = 3, length = 137;
  std::vector<std::int64_t> documents = {};  // tokens of each, row by row; empty: one a row
};

// Rows of one, two and three documents.
inline BatchShape packed_rows() { return {3, 137, {137, 40, 97, 1, 70, 66}}; }

// Random ids and labels, a third of the labels masked.
struct Batch {
  std::int64_t rows, length;
  std::vector<std::int64_t> ids, labels;       // [rows, length]
  std::vector<std::int64_t> documents, names;  // of the rows, one after another

  explicit Batch(std::uint64_t seed, const BatchShape& shape = {});

  std::int64_t label_count() const;
  // Masks all labels behind the first `count`.
  void keep_labels(std::int64_t count);
  TokenRows token_rows() const { return {rows, length, ids, labels, documents, names}; }
  nn::ForwardContext context(c10::Device device) const;
  at::Tensor tensor(const std::vector<std::int64_t>& values, c10::Device device) const;
};

// Which linear layers get an adapter, and of which rank.
struct Adapters {
  std::int64_t rank = 4;
  double dropout = 0;
  io::ModulePattern modules = std::string(io::kAllLinear);
  std::vector<std::int64_t> layers = {};            // empty: all
  io::PathPatterns<std::int64_t> other_ranks = {};  // of the modules that they match
};

void attach(CausalLM& model, DType dtype, std::uint64_t seed, const Adapters& adapters);

std::unique_ptr<CausalLM> random_model(const Family& family, DType dtype, c10::Device device,
                                       bool embedding_on_host = false);

// A bfloat16 model in 4 bits on the GPU, and one in float64 on the CPU with the same weights.
struct Models {
  std::unique_ptr<CausalLM> model, reference;

  Models(const Family& family, std::uint64_t seed, const Adapters& adapters = {});
  Llama& llama() const { return dynamic_cast<Llama&>(*model); }
};

struct Result {
  double loss = 0;
  std::vector<std::pair<std::string, at::Tensor>> gradients;  // float64, on the CPU
};

// The gradients that the parameters have, copied.
Result collect(CausalLM& model, double loss);
void zero_gradients(CausalLM& model);

// The batch's loss; the gradients grow by those of scale times it.
double accumulate_plain(CausalLM& model, const Batch& batch, double scale);
Result run_plain(CausalLM& model, const Batch& batch);

// Memory, seed and largest batch are filled in.
FusedOptions options_for(const BatchShape& largest, std::int64_t documents, FusedOptions options);
Result run_fused(CausalLM& model, const Batch& batch, const FusedOptions& options);

// With equal bits in every run.
FusedOptions fixed_bits(FusedOptions options = {});

fused::MemoryChoice everywhere(fused::Recompute mode, bool offload = false,
                               std::int64_t mlp_rows = 0, bool keeps_weights = true);

void expect_near(const Result& got, const Result& exact, const std::string& where);
void expect_same_bits(const Result& a, const Result& b, const std::string& where);

}  // namespace qlora::models::fused_test
