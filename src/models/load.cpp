#include "qlora/models/load.h"

#include "qlora/base/error.h"
#include "qlora/models/llama.h"
#include "qlora/tensor/bridge.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cstring>
#include <utility>

namespace qlora::models {
namespace {

using io::Role;

at::Tensor to_tensor(std::span<const std::byte> bytes, at::ScalarType dtype) {
  const auto size = static_cast<std::int64_t>(bytes.size() / c10::elementSize(dtype));
  at::Tensor tensor = at::empty({size}, dtype);
  std::memcpy(tensor.data_ptr(), bytes.data(), bytes.size());
  return tensor;
}

// The stored parts of a bitsandbytes weight, byte for byte.
tensor::QuantizedWeightPtr adopt(const io::Bnb4bitTensor& stored) {
  auto weight = c10::make_intrusive<tensor::QuantizedWeight>();
  const auto& state = stored.state;
  weight->type = state.quant_type == "fp4" ? kernels::QuantType::FP4 : kernels::QuantType::NF4;
  weight->block = state.blocksize;
  weight->shape = state.shape;
  weight->original_dtype = tensor::scalar_type(state.dtype);
  weight->packed = to_tensor(stored.packed, at::kByte);
  if (!state.nested) {
    weight->absmax = to_tensor(stored.absmax, at::kFloat);
    return weight;
  }
  weight->absmax_codes = to_tensor(stored.absmax, at::kByte);
  weight->nested_absmax = to_tensor(stored.nested_absmax, at::kFloat);
  weight->nested_map = to_tensor(stored.nested_quant_map, at::kFloat);
  weight->offset = state.nested->offset;
  return weight;
}

bool named_in(const std::vector<std::string>& modules, const std::string& path) {
  return std::any_of(modules.begin(), modules.end(), [&](const std::string& name) {
    return path == name || path.ends_with("." + name);
  });
}

// Reads the parts of one model; each function names what it reads.
class Loader {
 public:
  // source: null makes random weights.
  Loader(const io::WeightSource* source, const io::ModelConfig& config, const LoadOptions& options,
         at::ScalarType dtype)
      : source_(source), config_(config), options_(options), dtype_(dtype) {}

  LlamaParts read_all() const {
    LlamaParts parts;
    const auto& c = config_;
    parts.embedding = embedding();
    parts.layers.resize(static_cast<std::size_t>(c.num_hidden_layers));
    for (std::size_t i = 0; i < parts.layers.size(); ++i) {
      parts.layers[i] = layer(static_cast<std::int64_t>(i));
    }
    parts.final_norm = norm(module(Role::FinalNorm), c.hidden_size);
    if (!c.tie_word_embeddings) {
      parts.lm_head = linear(module(Role::LmHead), c.vocab_size, c.hidden_size, false);
    }
    return parts;
  }

 private:
  nn::Embedding embedding() const {
    const at::Tensor weight =
        dense(module(Role::Embedding) + ".weight", {config_.vocab_size, config_.hidden_size});
    if (!options_.embedding_on_host) return nn::Embedding(weight);
    if (config_.tie_word_embeddings) {
      fail(
          "the embedding of this model cannot stay on the host: it is the output projection, too "
          "(tie_word_embeddings); unset training.embedding_offloading");
    }
    return nn::Embedding(options_.device.is_cuda() ? weight.cpu().pin_memory() : weight);
  }

  std::string module(Role role, std::int64_t layer = 0) const {
    return io::module_path(config_.architecture, role, layer);
  }

  LlamaLayer layer(std::int64_t i) const {
    const auto& c = config_;
    const std::int64_t d = c.hidden_size;
    const std::int64_t q_width = c.num_attention_heads * c.head_dim;
    const std::int64_t kv_width = c.num_key_value_heads * c.head_dim;
    LlamaLayer result;
    result.input_norm = norm(module(Role::InputNorm, i), d);
    result.attention.q_proj = linear(module(Role::QProj, i), q_width, d, c.qkv_bias);
    result.attention.k_proj = linear(module(Role::KProj, i), kv_width, d, c.qkv_bias);
    result.attention.v_proj = linear(module(Role::VProj, i), kv_width, d, c.qkv_bias);
    result.attention.o_proj = linear(module(Role::OProj, i), d, q_width, c.o_bias);
    if (c.qk_norm) {
      result.attention.q_norm = norm(module(Role::QNorm, i), c.head_dim);
      result.attention.k_norm = norm(module(Role::KNorm, i), c.head_dim);
    }
    result.post_attention_norm = norm(module(Role::PostAttentionNorm, i), d);
    result.mlp.gate_proj = linear(module(Role::GateProj, i), c.intermediate_size, d, c.mlp_bias);
    result.mlp.up_proj = linear(module(Role::UpProj, i), c.intermediate_size, d, c.mlp_bias);
    result.mlp.down_proj = linear(module(Role::DownProj, i), d, c.intermediate_size, c.mlp_bias);
    return result;
  }

  at::Tensor dense(const std::string& name, const std::vector<std::int64_t>& shape) const {
    if (source_ == nullptr) {
      return name.ends_with(".bias") ? at::zeros(shape, on_device()) : random(shape).to(dtype_);
    }
    io::expect_shape(*source_, name, shape);
    return read_weight(*source_, name, options_.dtype).to(options_.device, dtype_);
  }

  nn::RmsNorm norm(const std::string& path, std::int64_t width) const {
    return {dense(path + ".weight", {width}), config_.rms_norm_eps};
  }

  nn::Linear linear(const std::string& path, std::int64_t out, std::int64_t in, bool bias) const {
    const std::string name = path + ".weight";
    const at::Tensor bias_tensor = bias ? dense(path + ".bias", {out}) : at::Tensor();
    if (source_ != nullptr) {
      io::expect_shape(*source_, name, {out, in});
      if (const auto stored = source_->prequantized(name)) {
        const auto weight = adopt(*stored)->to(options_.device);
        source_->release(name);
        return {weight, bias_tensor, compute_dtype()};
      }
    }
    const auto& q = options_.quantization;
    if (!q.load_in_4bit || named_in(q.llm_int8_skip_modules, path)) {
      return nn::Linear(dense(name, {out, in}), bias_tensor);
    }
    // Quantized from the checkpoint's own precision, not from the activations'.
    const at::Tensor original = original_weight(name, {out, in});
    return {tensor::quantize(original, q.bnb_4bit_quant_type, kBlock, q.bnb_4bit_use_double_quant),
            bias_tensor, compute_dtype()};
  }

  at::Tensor original_weight(const std::string& name, at::IntArrayRef shape) const {
    if (source_ == nullptr) return random(shape);
    return read_weight(*source_, name, source_->info(name).dtype).to(options_.device);
  }

  // Matrices as transformers initialises them, norms 1.
  at::Tensor random(at::IntArrayRef shape) const {
    const auto options = on_device().dtype(at::kBFloat16);
    if (shape.size() == 1) return at::ones(shape, options);
    return at::randn(shape, options).mul_(kInitialDeviation);
  }

  at::TensorOptions on_device() const { return at::TensorOptions(options_.device).dtype(dtype_); }

  at::ScalarType compute_dtype() const {
    if (dtype_ == at::kDouble) return dtype_;
    return tensor::scalar_type(
        options_.quantization.bnb_4bit_compute_dtype.value_or(options_.dtype));
  }

  static constexpr std::int64_t kBlock = 64;  // bitsandbytes' default
  static constexpr double kInitialDeviation = 0.02;

  const io::WeightSource* source_;
  const io::ModelConfig& config_;
  const LoadOptions& options_;
  at::ScalarType dtype_;
};

std::unique_ptr<CausalLM> load_as(const std::filesystem::path& path, const LoadOptions& options,
                                  at::ScalarType dtype) {
  io::ModelConfig config = io::read_model_config(path);
  const auto source = io::open_weights(path);
  LlamaParts parts = Loader(source.get(), config, options, dtype).read_all();
  return std::make_unique<Llama>(std::move(config), std::move(parts), dtype);
}

}  // namespace

std::unique_ptr<CausalLM> load(const std::filesystem::path& path, const LoadOptions& options) {
  return load_as(path, options, tensor::scalar_type(options.dtype));
}

std::unique_ptr<CausalLM> make_random_model(io::ModelConfig config, const LoadOptions& options) {
  const at::ScalarType dtype = tensor::scalar_type(options.dtype);
  LlamaParts parts = Loader(nullptr, config, options, dtype).read_all();
  return std::make_unique<Llama>(std::move(config), std::move(parts), dtype);
}

std::unique_ptr<CausalLM> load_reference(const std::filesystem::path& path) {
  return load_as(path, LoadOptions{}, at::kDouble);
}

at::Tensor read_weight(const io::WeightSource& source, const std::string& name, DType dtype) {
  if (const auto stored = source.prequantized(name)) {
    const at::Tensor dense = adopt(*stored)->dequantize(tensor::scalar_type(dtype));
    source.release(name);
    return dense;
  }
  at::Tensor weight = at::empty(source.info(name).shape, tensor::scalar_type(dtype));
  source.read(name, dtype, weight.mutable_data_ptr());
  return weight;
}

}  // namespace qlora::models
