#pragma once
// bitsandbytes' 4-bit serialisation inside safetensors. A quantized weight W = [out, in], n values,
// b = ceil(n / blocksize) blocks, is stored as (prefix = the weight's own name):
//   prefix                                        uint8 [(n + 1) / 2, 1]   two codes a byte, high
//                                                                          nibble first
//   prefix.absmax                                 float32 [b], or uint8 [b] when nested
//   prefix.quant_map                              float32 [16]
//   prefix.nested_absmax                          float32 [ceil(b / nested_blocksize)]   nested
//   prefix.nested_quant_map                       float32 [256]                          nested
//   prefix.quant_state.bitsandbytes__nf4 (__fp4)  uint8 [length]: the JSON of Bnb4bitState

#include "qlora/base/dtype.h"
#include "qlora/base/json.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace qlora::io {

struct Bnb4bitNested {
  std::int64_t blocksize = 256;
  float offset = 0.0F;  // mean of the absmax values, added back after the 8-bit look-up
};

// The JSON beside a 4-bit weight.
struct Bnb4bitState {
  std::string quant_type = "nf4";  // or "fp4"
  std::int64_t blocksize = 64;
  DType dtype = DType::BFloat16;    // of the weight before it was quantized
  std::vector<std::int64_t> shape;  // [out, in]
  std::optional<Bnb4bitNested> nested;

  std::int64_t elements() const;
  std::int64_t blocks() const;
};

// A 4-bit weight as it lies in the file. The byte runs hold what the table above says; they may be
// unaligned and stay valid while their file is open. Lengths have been checked against `state`.
struct Bnb4bitTensor {
  Bnb4bitState state;
  std::span<const std::byte> packed;
  std::span<const std::byte> absmax;
  std::span<const std::byte> quant_map;
  std::span<const std::byte> nested_absmax;     // empty unless state.nested
  std::span<const std::byte> nested_quant_map;  // empty unless state.nested
};

// The bytes Python's json.dumps makes of bitsandbytes' dictionary: its key order, ", " and ": ",
// nested_offset as the shortest text that reads back as the same double.
std::string encode_bnb_state(const Bnb4bitState& state);

// Throws Error (starting with `where`) on a missing key, an unknown type, a size out of range.
Bnb4bitState decode_bnb_state(std::string_view text, std::string_view where);

// ".quant_state.bitsandbytes__nf4" / "__fp4".
std::string bnb_state_suffix(std::string_view quant_type);

// config.json's quantization_config of a checkpoint that bitsandbytes quantized to 4 bits.
struct BnbQuantizationConfig {
  std::string quant_type = "fp4";
  bool use_double_quant = false;
  DType compute_dtype = DType::Float32;
  std::vector<std::string> skip_modules;  // llm_int8_skip_modules; empty: null
};

// Empty where config.json has no quantization_config. Throws Error for another quant_method and for
// 8 bits. The storage type is not read: the packed bytes are the same in each.
std::optional<BnbQuantizationConfig> read_quantization_config(const Json& config,
                                                              std::string_view where);
Json to_json(const BnbQuantizationConfig& quantization);

}  // namespace qlora::io
