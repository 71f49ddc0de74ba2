#include "qlora/io/model_config.h"

#include "io/model_config_check.h"
#include "qlora/base/error.h"
#include "qlora/base/file.h"
#include "qlora/io/gguf.h"
#include "qlora/io/hf_checkpoint.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <utility>

namespace qlora::io {
namespace fs = std::filesystem;
namespace {

// Far above any published model; what exceeds them is a broken or hostile file, and would make
// sizes overflow later.
constexpr std::int64_t kMaxWidth = 1 << 20;
constexpr std::int64_t kMaxLayers = 4096;
constexpr std::int64_t kMaxHeadDim = 4096;
constexpr std::int64_t kMaxVocabulary = 1 << 26;
constexpr std::int64_t kMaxPositions = 1 << 30;

void check_range(std::string_view where, const char* key, std::int64_t value, std::int64_t max) {
  if (value < 1 || value > max) {
    fail("{}: '{}' is {}; expected 1 to {}", where, key, value, max);
  }
}

void check_number(std::string_view where, const char* key, double value, double max) {
  if (!(value > 0.0 && value <= max)) {
    fail("{}: '{}' is {}; expected a number above 0, at most {}", where, key, value, max);
  }
}

void check_rope_scaling(const RopeScaling& scaling, std::string_view where) {
  using Kind = RopeScaling::Kind;
  if (scaling.kind == Kind::None) return;
  for (const double divisor : scaling.divisors) check_number(where, "rope_freqs", divisor, 1e6);
  if (scaling.kind == Kind::Divisors) return;
  check_number(where, "rope_scaling.factor", scaling.factor, 1e6);
  if (scaling.kind == Kind::Linear) return;
  check_number(where, "rope_scaling.low_freq_factor", scaling.low_freq_factor, 1e6);
  check_number(where, "rope_scaling.high_freq_factor", scaling.high_freq_factor, 1e6);
  check_range(where, "rope_scaling.original_max_position_embeddings",
              scaling.original_max_position_embeddings, kMaxPositions);
  if (scaling.high_freq_factor <= scaling.low_freq_factor) {
    fail("{}: 'rope_scaling.high_freq_factor' is {}; expected more than low_freq_factor {}", where,
         scaling.high_freq_factor, scaling.low_freq_factor);
  }
}

void append_missing(std::vector<std::int64_t>& ids, const Json& value) {
  const auto add = [&](const Json& id) {
    if (id.is_number_integer() && std::ranges::find(ids, id.get<std::int64_t>()) == ids.end()) {
      ids.push_back(id.get<std::int64_t>());
    }
  };
  if (!value.is_array()) return add(value);
  for (const Json& id : value) add(id);
}

}  // namespace

void check_model_config(const ModelConfig& config, std::string_view where) {
  check_range(where, "hidden_size", config.hidden_size, kMaxWidth);
  check_range(where, "intermediate_size", config.intermediate_size, kMaxWidth);
  check_range(where, "num_hidden_layers", config.num_hidden_layers, kMaxLayers);
  check_range(where, "num_attention_heads", config.num_attention_heads, kMaxWidth);
  check_range(where, "num_key_value_heads", config.num_key_value_heads, kMaxWidth);
  check_range(where, "head_dim", config.head_dim, kMaxHeadDim);
  check_range(where, "vocab_size", config.vocab_size, kMaxVocabulary);
  check_range(where, "max_position_embeddings", config.max_position_embeddings, kMaxPositions);
  check_range(where, "num_attention_heads x head_dim", config.num_attention_heads * config.head_dim,
              kMaxWidth);
  check_number(where, "rms_norm_eps", config.rms_norm_eps, 1.0);
  check_number(where, "rope_theta", config.rope_theta, 1e12);
  if (config.num_attention_heads % config.num_key_value_heads != 0) {
    fail("{}: 'num_attention_heads' ({}) is not a multiple of 'num_key_value_heads' ({})", where,
         config.num_attention_heads, config.num_key_value_heads);
  }
  if (config.head_dim % 2 != 0) {
    fail("{}: 'head_dim' is {}; rotary embeddings need an even number", where, config.head_dim);
  }
  if (config.sliding_window) {
    check_range(where, "sliding_window", *config.sliding_window, kMaxPositions);
  }
  check_rope_scaling(config.rope_scaling, where);
}

ModelConfig read_model_config(const fs::path& path) {
  if (fs::is_regular_file(path)) {
    if (!is_gguf(path)) {
      fail("{}: neither a GGUF file nor a model directory", path.string());
    }
    return model_config_from_gguf(GgufFile(path));
  }
  require_model_directory(path);
  const fs::path file = path / "config.json";
  ModelConfig config = model_config_from_json(read_json(file), file.string());
  const fs::path generation = path / "generation_config.json";
  if (fs::exists(generation)) {
    const Json json = read_json(generation);
    const auto eos = json.find("eos_token_id");
    if (eos != json.end()) append_missing(config.stop_token_ids, *eos);
  }
  return config;
}

std::vector<double> rope_frequency_divisors(const ModelConfig& config) {
  const RopeScaling& scaling = config.rope_scaling;
  const std::int64_t pairs = config.head_dim / 2;
  if (scaling.kind == RopeScaling::Kind::Divisors) return scaling.divisors;
  std::vector<double> divisors(static_cast<std::size_t>(pairs), 1.0);
  if (scaling.kind == RopeScaling::Kind::Linear) std::ranges::fill(divisors, scaling.factor);
  if (scaling.kind != RopeScaling::Kind::Llama3) return divisors;

  const auto original = static_cast<double>(scaling.original_max_position_embeddings);
  const double low = scaling.low_freq_factor;
  const double high = scaling.high_freq_factor;
  for (std::int64_t i = 0; i < pairs; ++i) {
    const double exponent = 2.0 * static_cast<double>(i) / static_cast<double>(config.head_dim);
    const double wavelength = 2.0 * std::numbers::pi * std::pow(config.rope_theta, exponent);
    const double smooth = std::clamp((original / wavelength - low) / (high - low), 0.0, 1.0);
    divisors[static_cast<std::size_t>(i)] = 1.0 / ((1.0 - smooth) / scaling.factor + smooth);
  }
  return divisors;
}

}  // namespace qlora::io
