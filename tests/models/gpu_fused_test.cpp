// The fused path against the plain path, both against float64.

#include "qlora/base/json.h"
#include "qlora/base/random.h"
#include "qlora/models/adapters.h"
#include "qlora/models/fused_llama.h"
#include "qlora/models/load.h"
#include "support/gpu.h"

#include <gtest/gtest.h>

#include <ATen/Context.h>
#include <ATen/ops/full.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <utility>

namespace qlora::models {
namespace {

// Real layers' proportions in small: head sizes, grouped and single heads, an intermediate size
// that is no multiple of 8, biases, q/k norm, tied and untied output.
struct Family {
  const char* name;
  const char* type;
  std::int64_t hidden, intermediate, heads, key_heads, head_dim;
  bool tied;
};
constexpr Family kFusedFamilies[] = {
    {"llama_64", "llama", 256, 344, 4, 4, 64, false},
    {"llama_80_grouped", "llama", 320, 512, 4, 1, 80, true},
    {"llama_128_grouped", "llama", 256, 172, 2, 1, 128, false},
    {"qwen2_bias", "qwen2", 256, 512, 4, 2, 64, true},
    {"qwen3_norm", "qwen3", 256, 512, 4, 2, 128, false},
};

constexpr std::uint64_t kSeeds = 5;
constexpr std::size_t kLayers = 4;
constexpr std::uint64_t kDropoutSeed = 11;
const c10::Device kGpu(c10::kCUDA, 0);

// Ids and labels of rows of an odd length, a third of the labels masked.
struct Batch {
  std::int64_t rows = 3, length = 137;
  std::vector<std::int64_t> ids, labels;
  std::vector<std::int64_t> documents, names;  // of the rows, one after another

  // packed: rows hold one, two and three documents.
  Batch(std::uint64_t seed, std::int64_t vocabulary, bool packed = false) {
    const RandomStream stream(seed, "batch");
    documents = {length, length, length};
    if (packed) documents = {length, 40, length - 40, 1, 70, length - 71};
    for (std::size_t i = 0; i < documents.size(); ++i) {
      names.push_back(kernels::sample_name(static_cast<std::int64_t>(5 + 3 * i), 2));
    }
    for (std::int64_t i = 0; i < rows * length; ++i) {
      const std::uint64_t draw = stream.bits(static_cast<std::uint64_t>(i));
      ids.push_back(static_cast<std::int64_t>(draw % static_cast<std::uint64_t>(vocabulary)));
      labels.push_back(draw % 3 == 0 ? -100 : ids.back());
    }
    std::int64_t start = 0;
    for (const std::int64_t tokens : documents) {
      labels[static_cast<std::size_t>(std::exchange(start, start + tokens))] = -100;
    }
  }
  TokenRows token_rows() const { return {rows, length, ids, labels, documents, names}; }
  nn::ForwardContext context(c10::Device device) const {
    std::vector<std::int64_t> samples, positions;
    for (std::size_t i = 0; i < documents.size(); ++i) {
      for (std::int64_t t = 0; t < documents[i]; ++t) {
        samples.push_back(names[i]);
        positions.push_back(t);
      }
    }
    return {.training = true,
            .tokens = {at::tensor(samples).to(device), at::tensor(positions).to(device), {}},
            .documents = documents.size() > 3 ? documents : std::vector<std::int64_t>(),
            .seed = kDropoutSeed};
  }
  at::Tensor tensor(std::vector<std::int64_t> values, c10::Device device) const {
    return at::tensor(values).view({rows, length}).to(device);
  }
};

struct Result {
  double loss = 0;
  std::vector<std::pair<std::string, at::Tensor>> gradients;  // float64, on the CPU
};

LoadOptions options_for(DType dtype, c10::Device device) {
  LoadOptions options{.dtype = dtype, .device = device};
  options.quantization.load_in_4bit = true;
  options.quantization.bnb_4bit_use_double_quant = true;
  return options;
}

std::unique_ptr<CausalLM> random_model(const Family& f, DType dtype, c10::Device device,
                                       bool embedding_on_host = false) {
  const Json config = {{"model_type", f.type},
                       {"hidden_size", f.hidden},
                       {"intermediate_size", f.intermediate},
                       {"num_hidden_layers", kLayers},
                       {"num_attention_heads", f.heads},
                       {"num_key_value_heads", f.key_heads},
                       {"head_dim", f.head_dim},
                       {"vocab_size", 300},
                       {"max_position_embeddings", 256},
                       {"rms_norm_eps", 1e-5},
                       {"tie_word_embeddings", f.tied}};
  LoadOptions options = options_for(dtype, device);
  options.embedding_on_host = embedding_on_host;
  return make_random_model(io::model_config_from_json(config, f.name), options);
}

// A model in float64 on the CPU with the same weights.
std::unique_ptr<CausalLM> reference_of(CausalLM& model, const Family& f) {
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
  auto reference = random_model(f, DType::Float64, c10::kCPU);
  std::size_t next = 0, next_packed = 0;
  reference->visit(
      {.linear =
           [&](const std::string&, nn::Linear& m) {
             const auto& quantized = packed.at(next_packed++);
             const at::Tensor weight = dense.at(next++), bias = dense.at(next++);
             m = quantized ? nn::Linear(quantized, bias, at::kDouble) : nn::Linear(weight, bias);
           },
       .embedding = [&](const std::string&, nn::Embedding& m) { m.weight() = dense.at(next++); },
       .norm = [&](const std::string&, nn::RmsNorm& m) { m.weight() = dense.at(next++); }});
  return reference;
}

void attach(CausalLM& model, DType dtype, std::uint64_t seed, double dropout) {
  nn::LoraConfig config;
  config.r = 4;
  config.lora_dropout = dropout;
  config.lora_alpha = 2;  // an adapter about half as large as its weight
  config.init_lora_weights = nn::LoraInit::Random;
  attach_lora(model, to_adapter_config(config, "base"), dtype, seed);
}

Result collect(CausalLM& model, double loss) {
  Result result{.loss = loss, .gradients = {}};
  for (const auto& p : trainable_parameters(model)) {
    result.gradients.emplace_back(p.name, p.value.grad().to(c10::kCPU, at::kDouble).clone());
  }
  return result;
}

Result run_plain(CausalLM& model, const Batch& batch) {
  const nn::ForwardContext context = batch.context(model.device());
  const at::Tensor hidden = model.hidden_states(batch.tensor(batch.ids, model.device()), context);
  const at::Tensor loss =
      model.loss_sum(hidden, batch.tensor(batch.labels, model.device()), context);
  torch::autograd::backward({loss});
  return collect(model, loss.item<double>());
}

fused::MemoryChoice everywhere(fused::Recompute mode, bool offload = false,
                               std::int64_t mlp_rows = 0, bool keeps_weights = true) {
  return {std::vector(kLayers, mode), offload, mlp_rows, keeps_weights};
}

// What is allocated next, small or large, then holds NaN, of which the path must read nothing.
void poison_free_memory() {
  std::vector<at::Tensor> freed;
  for (int i = 0; i < 1024; ++i) freed.push_back(at::full({1 << 12}, NAN, at::TensorOptions(kGpu)));
  freed.push_back(at::full({1 << 26}, NAN, at::TensorOptions(kGpu)));
}

Result run_fused(CausalLM& model, const Batch& batch, FusedOptions options) {
  options.rows = batch.rows;
  options.length = batch.length;
  options.documents = std::ssize(batch.documents);
  options.seed = kDropoutSeed;
  options.memory = std::int64_t{1} << 30;
  poison_free_memory();
  FusedLlama fused(dynamic_cast<Llama&>(model), options);
  fused.accumulate(batch.token_rows(), 1.0);
  return collect(model, fused.loss_sum().item<double>());
}

double cosine(const at::Tensor& a, const at::Tensor& b) {
  return ((a * b).sum() / (a.norm() * b.norm())).item<double>();
}

double distance(const at::Tensor& a, const at::Tensor& b) {
  return ((a - b).norm() / b.norm()).item<double>();
}

// Sums over tensors and seeds of the logarithm of each gradient's distance to float64.
struct Distances {
  double fused = 0, plain = 0;
  double count = 0;

  double ratio() const { return std::exp((fused - plain) / count); }
};

struct Models {
  std::unique_ptr<CausalLM> model, reference;

  Models(const Family& family, std::uint64_t seed, double dropout = 0) {
    at::manual_seed(seed);
    model = random_model(family, DType::BFloat16, kGpu);
    reference = reference_of(*model, family);
    attach(*model, DType::Float32, seed, dropout);
    attach(*reference, DType::Float64, seed, dropout);
  }
};

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

// How the same families are trained.
struct Setting {
  const char* name;
  double dropout;
  bool packed;
};
constexpr Setting kSettings[] = {{"plain", 0, false}, {"packed_with_dropout", 0.1, true}};

// One seed of one family; adds to `sums` and holds every gradient of the fused path to float64.
void compare(const Family& family, const Setting& setting, std::uint64_t seed, Distances& sums) {
  const Models models(family, seed, setting.dropout);
  const Batch batch(seed, models.model->config().vocab_size, setting.packed);
  const Result exact = run_plain(*models.reference, batch);
  const Result plain = run_plain(*models.model, batch);
  const Result fused =
      run_fused(*models.model, batch, {.choice = everywhere(fused::Recompute::None)});
  expect_near(fused, exact, fmt::format("{} {} seed {}", family.name, setting.name, seed));
  for (std::size_t i = 0; i < exact.gradients.size(); ++i) {
    const at::Tensor& gradient = exact.gradients[i].second;
    sums.plain += std::log(distance(plain.gradients[i].second, gradient));
    sums.fused += std::log(distance(fused.gradients[i].second, gradient));
    ++sums.count;
  }
}

TEST(GpuFused, IsNearerToFloat64ThanThePlainPath) {
  QLORA_REQUIRE_GPU();
  for (const Setting& setting : kSettings) {
    for (const Family& family : kFusedFamilies) {
      Distances sums;
      for (std::uint64_t seed = 1; seed <= kSeeds; ++seed) compare(family, setting, seed, sums);
      const std::string name = fmt::format("{}_{}", family.name, setting.name);
      EXPECT_LE(sums.ratio(), 1.0) << name;
      RecordProperty(name, std::to_string(sums.ratio()));
    }
  }
}

TEST(GpuFused, RecomputedLayersGiveTheSame) {
  QLORA_REQUIRE_GPU();
  for (const Family& family : kFusedFamilies) {
    const Models models(family, 1, 0.1);
    const Batch batch(1, models.model->config().vocab_size, /*packed=*/true);
    const Result exact = run_plain(*models.reference, batch);
    for (const auto& choice :
         {everywhere(fused::Recompute::Smart), everywhere(fused::Recompute::Full),
          everywhere(fused::Recompute::None, true, 50), everywhere(fused::Recompute::Smart, true),
          everywhere(fused::Recompute::Full, true, 50, /*keeps_weights=*/false)}) {
      expect_near(run_fused(*models.model, batch, {.choice = choice}), exact, family.name);
    }
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

TEST(GpuFused, DeterministicModeGivesTheSameBitsHoweverItRuns) {
  QLORA_REQUIRE_GPU();
  for (const Family& family : kFusedFamilies) {
    const Models models(family, 1, 0.1);
    const Batch batch(1, models.model->config().vocab_size, /*packed=*/true);
    const auto run = [&](fused::Recompute mode, bool offload, bool graphs,
                         bool keeps_weights = true) {
      return run_fused(*models.model, batch,
                       {.choice = everywhere(mode, offload, 0, keeps_weights),
                        .deterministic_attention = true,
                        .fixed_products = true,
                        .graphs = graphs});
    };
    const Result first = run(fused::Recompute::None, false, true);
    expect_near(first, run_plain(*models.reference, batch), family.name);
    expect_same_bits(run(fused::Recompute::None, false, true), first, "again");
    expect_same_bits(run(fused::Recompute::None, false, false), first, "without graphs");
    expect_same_bits(run(fused::Recompute::None, true, true), first, "offloaded");
    expect_same_bits(run(fused::Recompute::Smart, false, true), first, "smart");
    expect_same_bits(run(fused::Recompute::Full, true, true), first, "full, offloaded");
    expect_same_bits(run(fused::Recompute::Full, false, true, false), first, "weights dropped");
  }
}

TEST(GpuFused, AnEmbeddingOnTheHostGivesTheSameBits) {
  QLORA_REQUIRE_GPU();
  const auto run = [](bool embedding_on_host) {
    at::manual_seed(1);
    const auto model = random_model(kFusedFamilies[0], DType::BFloat16, kGpu, embedding_on_host);
    attach(*model, DType::Float32, 1, 0);
    return run_fused(*model, Batch(1, model->config().vocab_size),
                     {.choice = everywhere(fused::Recompute::Full),
                      .deterministic_attention = true,
                      .fixed_products = true});
  };
  expect_same_bits(run(true), run(false), "host");
}

// What the default mode adds to two runs' difference is attention's backward alone.
TEST(GpuFused, TimedProductsGiveTheSameBitsOnceChosen) {
  QLORA_REQUIRE_GPU();
  const Models models(kFusedFamilies[1], 1);
  const Batch batch(1, models.model->config().vocab_size);
  const FusedOptions options{.choice = everywhere(fused::Recompute::None),
                             .deterministic_attention = true};
  const Result first = run_fused(*models.model, batch, options);
  expect_same_bits(run_fused(*models.model, batch, options), first, "again");
}

// Batches shorter and fewer than the longest, through other graphs, add up to the whole.
TEST(GpuFused, MicroBatchesAddUp) {
  QLORA_REQUIRE_GPU();
  const Models models(kFusedFamilies[0], 1);
  const Batch batch(1, models.model->config().vocab_size);
  const Result exact = run_plain(*models.reference, batch);
  FusedLlama fused(dynamic_cast<Llama&>(*models.model),
                   {.rows = 4, .length = 256, .memory = std::int64_t{1} << 30});
  for (int update = 0; update < 2; ++update) {
    for (std::int64_t row = 0; row < batch.rows; ++row) {
      const auto first = static_cast<std::size_t>(row * batch.length);
      const auto length = static_cast<std::size_t>(batch.length);
      const auto row_index = static_cast<std::size_t>(row);
      fused.accumulate({1, batch.length, std::span(batch.ids).subspan(first, length),
                        std::span(batch.labels).subspan(first, length),
                        std::span(batch.documents).subspan(row_index, 1),
                        std::span(batch.names).subspan(row_index, 1)},
                       1.0);
    }
    const double loss = fused.loss_sum().item<double>();
    expect_near(collect(*models.model, loss), exact, fmt::format("update {}", update));
    fused.loss_sum().zero_();
    for (const auto& p : trainable_parameters(*models.model)) p.value.grad().zero_();
  }
}

}  // namespace
}  // namespace qlora::models
