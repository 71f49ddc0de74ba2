// The keys and tensors of a GGUF file -> ModelConfig.

#include "io/model_config_check.h"
#include "qlora/base/error.h"
#include "qlora/io/gguf.h"
#include "qlora/io/model_config.h"

#include <algorithm>
#include <cmath>
#include <string>

namespace qlora::io {
namespace {

constexpr double kDefaultRopeBase = 10000.0;  // where a GGUF file does not say (llama.cpp)

// Llama 3.1's published parameters; only the factor differs between its descendants.
constexpr double kLlama3LowFactor = 1.0;
constexpr double kLlama3HighFactor = 4.0;
constexpr std::int64_t kLlama3Original = 8192;
// The file's divisors were computed from float32 frequencies.
constexpr double kDivisorTolerance = 1e-5;

// The keys of one architecture: "llama." + name.
class Keys {
 public:
  Keys(const GgufFile& file, std::string prefix) : file_(file), prefix_(std::move(prefix)) {}
  std::int64_t integer(std::string_view name) const { return file_.integer(key(name)); }
  double number(std::string_view name) const { return file_.number(key(name)); }
  std::optional<std::int64_t> find_integer(std::string_view name) const {
    return file_.find_integer(key(name));
  }
  std::optional<double> find_number(std::string_view name) const {
    return file_.find_number(key(name));
  }
  std::optional<std::string> find_string(std::string_view name) const {
    return file_.find_string(key(name));
  }
  std::string key(std::string_view name) const { return fmt::format("{}.{}", prefix_, name); }

 private:
  const GgufFile& file_;
  std::string prefix_;
};

void read_sizes(ModelConfig& config, const Keys& keys, const std::string& where) {
  config.hidden_size = keys.integer("embedding_length");
  config.intermediate_size = keys.integer("feed_forward_length");
  config.num_hidden_layers = keys.integer("block_count");
  config.num_attention_heads = keys.integer("attention.head_count");
  config.num_key_value_heads =
      keys.find_integer("attention.head_count_kv").value_or(config.num_attention_heads);
  config.max_position_embeddings = keys.integer("context_length");
  config.rms_norm_eps = keys.number("attention.layer_norm_rms_epsilon");
  config.sliding_window = keys.find_integer("attention.sliding_window");
  if (config.num_attention_heads < 1) {
    fail("{}: '{}' is {}; expected 1 or more", where, keys.key("attention.head_count"),
         config.num_attention_heads);
  }
  config.head_dim = keys.find_integer("attention.key_length")
                        .value_or(config.hidden_size / config.num_attention_heads);
  for (const char* name : {"attention.value_length", "rope.dimension_count"}) {
    const std::int64_t value = keys.find_integer(name).value_or(config.head_dim);
    if (value != config.head_dim) {
      fail("{}: '{}' is {}; only the head dimension, {}, is supported", where, keys.key(name),
           value, config.head_dim);
    }
  }
  if (keys.find_integer("expert_count").value_or(0) != 0) {
    fail("{}: '{}' is {}; mixtures of experts are not supported", where, keys.key("expert_count"),
         keys.integer("expert_count"));
  }
}

// rope_freqs.weight holds one divisor per frequency. Where they equal what Llama 3's formula gives
// for the largest of them, the parameters are thereby known and config.json can state them.
RopeScaling scaling_from_divisors(const ModelConfig& config, std::vector<double> divisors) {
  ModelConfig trial = config;
  trial.rope_scaling = {RopeScaling::Kind::Llama3, std::ranges::max(divisors),
                        kLlama3LowFactor,          kLlama3HighFactor,
                        kLlama3Original,           {}};
  const std::vector<double> expected = rope_frequency_divisors(trial);
  const bool equal = std::ranges::equal(expected, divisors, [](double a, double b) {
    return std::abs(a - b) <= kDivisorTolerance * b;
  });
  if (equal) return trial.rope_scaling;
  RopeScaling scaling;
  scaling.kind = RopeScaling::Kind::Divisors;
  scaling.divisors = std::move(divisors);
  return scaling;
}

RopeScaling read_rope_scaling(const ModelConfig& config, const GgufFile& file, const Keys& keys,
                              const std::string& where) {
  const std::string type = keys.find_string("rope.scaling.type").value_or("none");
  RopeScaling scaling;
  if (type == "linear") {
    scaling.kind = RopeScaling::Kind::Linear;
    scaling.factor = keys.number("rope.scaling.factor");
  } else if (type != "none") {
    fail("{}: '{}' is '{}'; known are none, linear", where, keys.key("rope.scaling.type"), type);
  } else if (const auto factor = keys.find_number("rope.scale_linear");
             factor.value_or(1.0) != 1.0) {
    scaling.kind = RopeScaling::Kind::Linear;
    scaling.factor = *factor;
  }
  const GgufTensor* tensor = file.find("rope_freqs.weight");
  if (tensor == nullptr) return scaling;
  if (scaling.kind != RopeScaling::Kind::None) {
    fail("{}: both 'rope_freqs.weight' and '{}' scale the RoPE frequencies", where,
         keys.key("rope.scaling.type"));
  }
  const std::int64_t pairs = config.head_dim / 2;
  if (tensor->shape != std::vector{pairs} || tensor->type->name != "F32") {
    fail("{}: tensor 'rope_freqs.weight' must be F32 of {} values", where, pairs);
  }
  std::vector<float> values(static_cast<std::size_t>(pairs));
  dequantize_gguf(*tensor->type, tensor->bytes.data(), pairs, values.data());
  return scaling_from_divisors(config, {values.begin(), values.end()});
}

void read_tensor_facts(ModelConfig& config, const GgufFile& file, const std::string& where) {
  const GgufTensor* embedding = file.find(gguf_module_path(Role::Embedding) + ".weight");
  if (embedding == nullptr || embedding->shape.size() != 2) {
    fail("{}: tensor 'token_embd.weight' is missing or no matrix", where);
  }
  const auto present = [&](Role role, const char* parameter) {
    return file.find(gguf_module_path(role, 0) + parameter) != nullptr;
  };
  config.vocab_size = embedding->shape.front();
  config.tie_word_embeddings = !present(Role::LmHead, ".weight");
  config.qkv_bias = present(Role::QProj, ".bias");
  config.o_bias = present(Role::OProj, ".bias");
  config.mlp_bias = present(Role::GateProj, ".bias");
  config.qk_norm = info_of(config.architecture).qk_norm;
}

void read_tokens(ModelConfig& config, const GgufFile& file) {
  config.bos_token_id = file.find_integer("tokenizer.ggml.bos_token_id");
  config.pad_token_id = file.find_integer("tokenizer.ggml.padding_token_id");
  if (const auto eos = file.find_integer("tokenizer.ggml.eos_token_id")) {
    config.eos_token_ids.push_back(*eos);
  }
  config.stop_token_ids = config.eos_token_ids;
  // The end of a turn, where it is not the end of the text.
  const auto turn = file.find_integer("tokenizer.ggml.eot_token_id");
  if (turn && std::ranges::find(config.stop_token_ids, *turn) == config.stop_token_ids.end()) {
    config.stop_token_ids.push_back(*turn);
  }
}

}  // namespace

ModelConfig model_config_from_gguf(const GgufFile& file) {
  const std::string where = file.path().string();
  const std::string name = file.string("general.architecture");
  const ArchitectureInfo* info = find_by_gguf_name(name);
  if (info == nullptr) {
    fail("{}: the architecture '{}' is unknown; known are {}", where, name, known_gguf_names());
  }
  const Keys keys(file, name);
  ModelConfig config;
  config.architecture = info->architecture;
  read_sizes(config, keys, where);
  read_tensor_facts(config, file, where);
  read_tokens(config, file);
  config.rope_theta = keys.find_number("rope.freq_base").value_or(kDefaultRopeBase);
  check_model_config(config, where);  // before head_dim sizes anything
  config.rope_scaling = read_rope_scaling(config, file, keys, where);
  check_model_config(config, where);
  return config;
}

}  // namespace qlora::io
