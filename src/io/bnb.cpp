#include "qlora/io/bnb.h"

#include "io/python_json.h"
#include "qlora/base/error.h"
#include "qlora/base/narrow.h"
#include "qlora/io/tensor_view.h"

#include <bit>
#include <cmath>

namespace qlora::io {
namespace {

constexpr std::int64_t kMinBlock = 32;
constexpr std::int64_t kMaxBlock = 4096;
constexpr std::int64_t kMaxElements = std::int64_t{1} << 40;

std::int64_t block_size(const Json& json, const char* key, std::string_view where) {
  const auto size = json_get<std::int64_t>(json, key, where);
  if (size < kMinBlock || size > kMaxBlock ||
      !std::has_single_bit(static_cast<std::uint64_t>(size))) {
    fail("{}: '{}' is {}; expected a power of two from {} to {}", where, key, size, kMinBlock,
         kMaxBlock);
  }
  return size;
}

void check_quant_type(std::string_view type, std::string_view where) {
  if (type != "nf4" && type != "fp4") {
    fail("{}: the 4-bit type '{}' is unknown; known are nf4, fp4", where, type);
  }
}

DType float_type(const std::string& name, const char* key, std::string_view where) {
  if (name != "float32" && name != "float16" && name != "bfloat16") {
    fail("{}: '{}' is '{}'; expected float32, float16 or bfloat16", where, key, name);
  }
  return dtype_from_name(name);
}

Bnb4bitNested decode_nested(const Json& json, std::string_view where) {
  Bnb4bitNested nested;
  nested.blocksize = block_size(json, "nested_blocksize", where);
  const auto dtype = json_get<std::string>(json, "nested_dtype", where);
  if (dtype != "float32") fail("{}: 'nested_dtype' is '{}'; expected float32", where, dtype);
  nested.offset = static_cast<float>(json_get<double>(json, "nested_offset", where));
  if (!std::isfinite(nested.offset)) fail("{}: 'nested_offset' is not a finite number", where);
  return nested;
}

}  // namespace

std::int64_t Bnb4bitState::elements() const { return element_count(shape); }
std::int64_t Bnb4bitState::blocks() const { return div_up(elements(), blocksize); }

std::string bnb_state_suffix(std::string_view quant_type) {
  return fmt::format(".quant_state.bitsandbytes__{}", quant_type);
}

std::string encode_bnb_state(const Bnb4bitState& state) {
  std::string text =
      fmt::format(R"({{"quant_type": "{}", "blocksize": {}, "dtype": "{}", "shape": {})",
                  state.quant_type, state.blocksize, name_of(state.dtype), shape_text(state.shape));
  if (state.nested) {
    text += fmt::format(
        R"(, "nested_blocksize": {}, "nested_dtype": "float32", "nested_offset": {})",
        state.nested->blocksize, python_float(static_cast<double>(state.nested->offset)));
  }
  return text + "}";
}

Bnb4bitState decode_bnb_state(std::string_view text, std::string_view where) {
  const Json json = parse_json(text, where);
  Bnb4bitState state;
  state.quant_type = json_get<std::string>(json, "quant_type", where);
  check_quant_type(state.quant_type, where);
  state.blocksize = block_size(json, "blocksize", where);
  state.dtype = float_type(json_get<std::string>(json, "dtype", where), "dtype", where);
  state.shape = json_get<std::vector<std::int64_t>>(json, "shape", where);
  std::int64_t elements = 1;
  for (const std::int64_t size : state.shape) {
    if (size < 1 || size > kMaxElements / elements) {
      fail("{}: 'shape' is {}, out of range", where, shape_text(state.shape));
    }
    elements *= size;
  }
  // Some writers state a nested block size of 0 where nothing is nested.
  if (json_get_or<std::int64_t>(json, "nested_blocksize", 0, where) != 0) {
    state.nested = decode_nested(json, where);
  }
  return state;
}

std::optional<BnbQuantizationConfig> read_quantization_config(const Json& config,
                                                              std::string_view where) {
  const auto it = config.find("quantization_config");
  if (it == config.end() || it->is_null()) return std::nullopt;
  const std::string here = fmt::format("{}: quantization_config", where);
  const auto method = json_get_or<std::string>(*it, "quant_method", "bitsandbytes", here);
  if (method != "bitsandbytes") {
    fail("{}: the method '{}' is not supported; known is bitsandbytes", here, method);
  }
  if (!json_get_or<bool>(*it, "load_in_4bit", false, here)) {
    fail("{}: only 4-bit checkpoints of bitsandbytes are supported", here);
  }
  BnbQuantizationConfig result;
  result.quant_type = json_get_or<std::string>(*it, "bnb_4bit_quant_type", "fp4", here);
  check_quant_type(result.quant_type, here);
  result.use_double_quant = json_get_or<bool>(*it, "bnb_4bit_use_double_quant", false, here);
  result.compute_dtype =
      float_type(json_get_or<std::string>(*it, "bnb_4bit_compute_dtype", "float32", here),
                 "bnb_4bit_compute_dtype", here);
  result.skip_modules =
      json_get_or<std::vector<std::string>>(*it, "llm_int8_skip_modules", {}, here);
  return result;
}

Json to_json(const BnbQuantizationConfig& quantization) {
  Json json;
  json["_load_in_4bit"] = true;
  json["_load_in_8bit"] = false;
  json["bnb_4bit_compute_dtype"] = std::string(name_of(quantization.compute_dtype));
  json["bnb_4bit_quant_storage"] = "uint8";
  json["bnb_4bit_quant_type"] = quantization.quant_type;
  json["bnb_4bit_use_double_quant"] = quantization.use_double_quant;
  json["llm_int8_enable_fp32_cpu_offload"] = false;
  json["llm_int8_has_fp16_weight"] = false;
  json["llm_int8_skip_modules"] =
      quantization.skip_modules.empty() ? Json(nullptr) : Json(quantization.skip_modules);
  json["llm_int8_threshold"] = 6.0;
  json["load_in_4bit"] = true;
  json["load_in_8bit"] = false;
  json["quant_method"] = "bitsandbytes";
  return json;
}

}  // namespace qlora::io
