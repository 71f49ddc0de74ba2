#include "qlora/run/training_base.h"

#include "qlora/base/file.h"
#include "qlora/base/json.h"
#include "qlora/text/chat_template.h"

namespace qlora::run {
namespace {

constexpr const char* kFileName = "training_base.json";
constexpr const char* kQuantizationKey = "quantization_config";
constexpr const char* kActivationKey = "activation_dtype";

}  // namespace

TrainingBase training_base_of(const tensor::QuantizationConfig& config, DType activation_dtype) {
  TrainingBase base{.quantization = {}, .activation_dtype = activation_dtype};
  if (!config.load_in_4bit) return base;
  base.quantization = {.quant_type = std::string(enum_name(config.bnb_4bit_quant_type)),
                       .use_double_quant = config.bnb_4bit_use_double_quant,
                       .compute_dtype = config.bnb_4bit_compute_dtype.value_or(activation_dtype),
                       .skip_modules = config.llm_int8_skip_modules};
  return base;
}

void write_training_base(const TrainingBase& base, const std::filesystem::path& adapter) {
  Json json;
  json[kQuantizationKey] = base.quantization ? io::to_json(*base.quantization) : Json(nullptr);
  json[kActivationKey] = std::string(name_of(base.activation_dtype));
  write_text(adapter / kFileName, json.dump(2) + "\n");
}

std::optional<TrainingBase> read_training_base(const std::filesystem::path& adapter) {
  const std::filesystem::path file = adapter / kFileName;
  if (!std::filesystem::exists(file)) return std::nullopt;
  const Json json = read_json(file);
  TrainingBase base;
  base.quantization = io::read_quantization_config(json, file.string());
  const auto dtype = json_get<std::string>(json, kActivationKey, file.string());
  base.activation_dtype = dtype_from_name(dtype);
  if (enum_name(base.activation_dtype).empty()) {
    fail("{}: '{}' is '{}'; expected float32, bfloat16 or float16", file.string(), kActivationKey,
         dtype);
  }
  return base;
}

std::string read_trained_template(const std::filesystem::path& adapter) {
  const std::filesystem::path file = adapter / text::kChatTemplateFile;
  return std::filesystem::exists(file) ? read_text(file) : "";
}

tensor::QuantizationConfig quantization_under(const std::optional<TrainingBase>& trained,
                                              BaseWeights choice) {
  tensor::QuantizationConfig config;
  if (choice == BaseWeights::Original || !trained || !trained->quantization) return config;
  const io::BnbQuantizationConfig& stated = *trained->quantization;
  config.load_in_4bit = true;
  config.bnb_4bit_quant_type =
      stated.quant_type == "fp4" ? kernels::QuantType::FP4 : kernels::QuantType::NF4;
  config.bnb_4bit_use_double_quant = stated.use_double_quant;
  config.bnb_4bit_compute_dtype = stated.compute_dtype;
  config.llm_int8_skip_modules = stated.skip_modules;
  return config;
}

}  // namespace qlora::run
