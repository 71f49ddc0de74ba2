#include "models/fused_support.h"

#include "qlora/base/json.h"
#include "qlora/base/random.h"
#include "qlora/models/adapters.h"
#include "qlora/models/load.h"

#include <ATen/ops/full.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>

namespace qlora::models::fused_test {
namespace {

constexpr std::uint64_t kDropoutSeed = 11;
constexpr std::int64_t kMasked = -100;

// A model in float64 on the CPU with the same weights.
std::unique_ptr<CausalLM> reference_of(CausalLM& model, const Family& family) {
  std::vector<at::Tensor> dense;
  std::vector<tensor::QuantizedWeightPtr> packed;
  const auto exact = [](const at::Tensor& t) {
    return t.defined() ? t.detach().to(c10::kCPU, at::kDouble) : t;
  };
  model.visit(
      {.linear =
           [&](const std::string&, nn::Linear& m) {
             packed.push_back(m.quantized() ? m.quantized()->to(c10::kCPU) : nullptr);
             dense.insert(dense.end(), {exact(m.weight()), exact(m.bias())});
           },
       .embedding = [&](const std::string&,
                        nn::Embedding& m) { dense.push_back(exact(m.weight())); },
       .norm = [&](const std::string&, nn::RmsNorm& m) { dense.push_back(exact(m.weight())); }});
  auto reference = random_model(family, DType::Float64, c10::kCPU);
  std::size_t next = 0, next_packed = 0;
  reference->visit(
      {.linear =
           [&](const std::string&, nn::Linear& m) {
             const auto& quantized = packed.at(next_packed++);
             const at::Tensor& weight = dense.at(next++);
             const at::Tensor& bias = dense.at(next++);
             m = quantized ? nn::Linear(quantized, bias, at::kDouble) : nn::Linear(weight, bias);
           },
       .embedding = [&](const std::string&, nn::Embedding& m) { m.weight() = dense.at(next++); },
       .norm = [&](const std::string&, nn::RmsNorm& m) { m.weight() = dense.at(next++); }});
  return reference;
}

// What is allocated next on this stream, small or large, then holds NaN, of which the path must
// read nothing.
void poison_free_memory(c10::Device device) {
  const auto on = at::TensorOptions(device);
  std::vector<at::Tensor> freed;
  for (int i = 0; i < 1024; ++i) freed.push_back(at::full({1 << 12}, NAN, on));
  freed.push_back(at::full({1 << 26}, NAN, on));
}

double cosine(const at::Tensor& a, const at::Tensor& b) {
  return ((a * b).sum() / (a.norm() * b.norm())).item<double>();
}

}  // namespace

Batch::Batch(std::uint64_t seed, const BatchShape& shape)
    : rows(shape.rows), length(shape.length), documents(shape.documents) {
  const RandomStream stream(seed, "batch");
  if (documents.empty()) documents.assign(static_cast<std::size_t>(rows), length);
  for (std::size_t i = 0; i < documents.size(); ++i) {
    names.push_back(kernels::sample_name(static_cast<std::int64_t>(5 + 3 * i), 2));
  }
  for (std::int64_t i = 0; i < rows * length; ++i) {
    const std::uint64_t draw = stream.bits(static_cast<std::uint64_t>(i));
    ids.push_back(static_cast<std::int64_t>(draw % std::uint64_t{kVocabulary}));
    labels.push_back(draw % 3 == 0 ? kMasked : ids.back());
  }
  std::int64_t start = 0;
  for (const std::int64_t tokens : documents) {
    labels[static_cast<std::size_t>(std::exchange(start, start + tokens))] = kMasked;
  }
}

std::int64_t Batch::label_count() const {
  return std::ssize(labels) - std::ranges::count(labels, kMasked);
}

void Batch::keep_labels(std::int64_t count) {
  for (std::int64_t& label : labels) {
    if (label != kMasked && count-- <= 0) label = kMasked;
  }
}

nn::ForwardContext Batch::context(c10::Device device) const {
  std::vector<std::int64_t> samples, positions;
  for (std::size_t i = 0; i < documents.size(); ++i) {
    for (std::int64_t t = 0; t < documents[i]; ++t) {
      samples.push_back(names[i]);
      positions.push_back(t);
    }
  }
  const bool packed = std::ssize(documents) > rows;
  return {.training = true,
          .tokens = {at::tensor(samples).to(device), at::tensor(positions).to(device), {}},
          .documents = packed ? documents : std::vector<std::int64_t>(),
          .seed = kDropoutSeed};
}

at::Tensor Batch::tensor(const std::vector<std::int64_t>& values, c10::Device device) const {
  return at::tensor(values).view({rows, length}).to(device);
}

void attach(CausalLM& model, DType dtype, std::uint64_t seed, const Adapters& adapters) {
  nn::LoraConfig config;
  config.r = adapters.rank;
  config.lora_dropout = adapters.dropout;
  config.init_lora_weights = nn::LoraInit::Random;
  io::AdapterConfig lora = to_adapter_config(config, "base");
  // An adapter is about half as large as its weight.
  lora.lora_alpha = static_cast<double>(adapters.rank) / 2;
  lora.target_modules = adapters.modules;
  lora.layers_to_transform = adapters.layers;
  lora.rank_pattern = adapters.other_ranks;
  attach_lora(model, lora, dtype, seed);
}

std::unique_ptr<CausalLM> random_model(const Family& family, DType dtype, c10::Device device,
                                       bool embedding_on_host) {
  const Json config = {{"model_type", family.type},
                       {"hidden_size", family.hidden},
                       {"intermediate_size", family.intermediate},
                       {"num_hidden_layers", kLayers},
                       {"num_attention_heads", family.heads},
                       {"num_key_value_heads", family.key_heads},
                       {"head_dim", family.head_dim},
                       {"vocab_size", kVocabulary},
                       {"max_position_embeddings", kPositions},
                       {"rms_norm_eps", 1e-5},
                       {"tie_word_embeddings", family.tied}};
  LoadOptions options{.dtype = dtype, .device = device, .embedding_on_host = embedding_on_host};
  options.quantization.load_in_4bit = true;
  options.quantization.bnb_4bit_use_double_quant = true;
  return make_random_model(io::model_config_from_json(config, family.name), options);
}

Models::Models(const Family& family, std::uint64_t seed, const Adapters& adapters) {
  at::manual_seed(seed);
  model = random_model(family, DType::BFloat16, test::kGpu);
  reference = reference_of(*model, family);
  attach(*model, DType::Float32, seed, adapters);
  attach(*reference, DType::Float64, seed, adapters);
}

Result collect(CausalLM& model, double loss) {
  Result result{.loss = loss, .gradients = {}};
  for (const auto& p : trainable_parameters(model)) {
    result.gradients.emplace_back(p.name, p.value.grad().to(c10::kCPU, at::kDouble).clone());
  }
  return result;
}

void zero_gradients(CausalLM& model) {
  for (const auto& p : trainable_parameters(model)) {
    if (p.value.grad().defined()) p.value.grad().zero_();
  }
}

double accumulate_plain(CausalLM& model, const Batch& batch, double scale) {
  const nn::ForwardContext context = batch.context(model.device());
  const at::Tensor hidden = model.hidden_states(batch.tensor(batch.ids, model.device()), context);
  const at::Tensor loss =
      model.loss_sum(hidden, batch.tensor(batch.labels, model.device()), context);
  torch::autograd::backward({loss * scale});
  return loss.item<double>();
}

Result run_plain(CausalLM& model, const Batch& batch) {
  zero_gradients(model);
  const double loss = accumulate_plain(model, batch, 1.0);
  return collect(model, loss);
}

FusedOptions options_for(const BatchShape& largest, std::int64_t documents, FusedOptions options) {
  options.rows = largest.rows;
  options.length = largest.length;
  options.documents = documents;
  options.seed = kDropoutSeed;
  options.memory = std::int64_t{1} << 30;
  return options;
}

Result run_fused(CausalLM& model, const Batch& batch, const FusedOptions& options) {
  const FusedOptions all =
      options_for({batch.rows, batch.length}, std::ssize(batch.documents), options);
  EXPECT_EQ(fused_path_problem(model, all), std::nullopt);
  poison_free_memory(model.device());
  FusedLlama fused(dynamic_cast<Llama&>(model), all);
  fused.accumulate(batch.token_rows(), 1.0);
  return collect(model, fused.loss_sum().item<double>());
}

FusedOptions fixed_bits(FusedOptions options) {
  options.deterministic_attention = true;
  options.fixed_products = true;
  return options;
}

fused::MemoryChoice everywhere(fused::Recompute mode, bool offload, std::int64_t mlp_rows,
                               bool keeps_weights) {
  return {std::vector(kLayers, mode), offload, mlp_rows, keeps_weights};
}

void expect_near(const Result& got, const Result& exact, const std::string& where) {
  EXPECT_NEAR(got.loss / exact.loss, 1.0, 2e-3) << where;
  ASSERT_EQ(got.gradients.size(), exact.gradients.size());
  for (std::size_t i = 0; i < exact.gradients.size(); ++i) {
    const auto& [name, gradient] = exact.gradients[i];
    const at::Tensor& found = got.gradients[i].second;
    EXPECT_GE(cosine(found, gradient), 0.9995) << where << ' ' << name;
    EXPECT_NEAR((found.norm() / gradient.norm()).item<double>(), 1, 0.05) << where << ' ' << name;
  }
}

void expect_same_bits(const Result& a, const Result& b, const std::string& where) {
  EXPECT_EQ(a.loss, b.loss) << where;
  ASSERT_EQ(a.gradients.size(), b.gradients.size());
  for (std::size_t i = 0; i < a.gradients.size(); ++i) {
    const auto& [name, gradient] = a.gradients[i];
    EXPECT_TRUE(at::equal(gradient, b.gradients[i].second)) << where << ' ' << name;
  }
}

}  // namespace qlora::models::fused_test
