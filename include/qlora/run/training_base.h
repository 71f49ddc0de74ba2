#pragma once
// The base model that an adapter was trained against, kept beside the adapter as
// training_base.json:
//   {"quantization_config": as in config.json, or null, "activation_dtype": "bfloat16"}
// An adapter corrects its base's quantization error too, so it works best on that very base.

#include "qlora/base/dtype.h"
#include "qlora/io/bnb.h"
#include "qlora/tensor/quantization_config.h"

#include <array>
#include <filesystem>
#include <optional>

namespace qlora::run {

struct TrainingBase {
  std::optional<io::BnbQuantizationConfig> quantization;  // empty: dense
  DType activation_dtype = DType::Float32;
};

TrainingBase training_base_of(const tensor::QuantizationConfig& config, DType activation_dtype);

// Into the existing directory of an adapter or a checkpoint.
void write_training_base(const TrainingBase& base, const std::filesystem::path& adapter);

// Empty where the adapter does not say (another program wrote it). Throws Error for a broken file.
std::optional<TrainingBase> read_training_base(const std::filesystem::path& adapter);

// The Jinja source that the adapter was trained with; empty where its directory does not say.
std::string read_trained_template(const std::filesystem::path& adapter);

// Which weights an adapter is put on.
enum class BaseWeights {
  Training,  // quantized as they were in training; as stored where training_base.json is absent
  Original,  // as stored
};

constexpr std::array<EnumName<BaseWeights>, 2> enum_names(BaseWeights /*tag*/) {
  return {{{BaseWeights::Training, "training"}, {BaseWeights::Original, "original"}}};
}

// How the stored weights are quantized before the adapter is put on them.
tensor::QuantizationConfig quantization_under(const std::optional<TrainingBase>& trained,
                                              BaseWeights choice);

}  // namespace qlora::run
