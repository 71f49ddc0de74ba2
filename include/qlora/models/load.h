#pragma once
// From files to a model in memory, quantizing on the way.

#include "qlora/io/weight_source.h"
#include "qlora/models/causal_lm.h"
#include "qlora/tensor/quantization_config.h"

#include <filesystem>
#include <memory>

namespace qlora::models {

struct LoadOptions {
  tensor::QuantizationConfig quantization;
  DType dtype = DType::Float32;  // of the activations and of every weight that stays dense
  c10::Device device = c10::kCPU;
  // The input embedding stays in (pinned) host memory, from where a GPU fetches the rows it needs.
  bool embedding_on_host = false;
};

// Opens an HF directory or a GGUF file. Weights stream from the mapped files: host and device never
// hold more than the (quantized) model and one tensor. A checkpoint that bitsandbytes has already
// quantized to 4 bits keeps its bytes whatever `quantization` says. Throws Error: a file or tensor
// missing or of the wrong shape (names the file, expected, found), an unknown architecture, an
// embedding kept on the host that is the output projection, too.
std::unique_ptr<CausalLM> load(const std::filesystem::path& path, const LoadOptions& options);

// A model of that shape with random weights, made on the device: for measuring speed and memory.
std::unique_ptr<CausalLM> make_random_model(io::ModelConfig config, const LoadOptions& options);

// What load() reads, with float64 weights and activations, for reference arithmetic in tests.
std::unique_ptr<CausalLM> load_reference(const std::filesystem::path& path);

// One weight, dense, on the CPU, in `dtype`; packed 4-bit weights are dequantized.
at::Tensor read_weight(const io::WeightSource& source, const std::string& name, DType dtype);

}  // namespace qlora::models
