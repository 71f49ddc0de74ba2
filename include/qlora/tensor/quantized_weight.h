#pragma once
// A 4-bit weight as it stays in memory: bitsandbytes' bytes on any device.

#include "qlora/kernels/types.h"

#include <ATen/core/Tensor.h>
#include <torch/custom_class.h>

#include <cstdint>
#include <vector>

namespace qlora::tensor {

// NF4 or FP4 codes of a [out, in] weight, flattened row-major, two codes a byte (the first in the
// high nibble), one absmax per block of `block` elements. With double quantization the absmax
// values are themselves 8-bit codes (nested block 256) around `offset`.
struct QuantizedWeight : torch::CustomClassHolder {
  kernels::QuantType type = kernels::QuantType::NF4;
  std::int64_t block = 64;
  std::vector<std::int64_t> shape;
  at::ScalarType original_dtype = at::kFloat;  // the element type before quantizing
  at::Tensor packed;                           // uint8 [(n + 1) / 2]
  at::Tensor absmax;                           // float32 [blocks]; undefined when nested
  at::Tensor absmax_codes;                     // uint8 [blocks]; defined when nested
  at::Tensor nested_absmax;                    // float32 [ceil(blocks / 256)]
  at::Tensor nested_map;                       // float32 [256]
  float offset = 0;

  bool nested() const { return absmax_codes.defined(); }
  // The scales as kernels take them; valid while this object lives.
  kernels::Absmax scales() const;
  std::int64_t element_count() const;
  // Bytes held on the device.
  std::int64_t byte_count() const;
  // The dense weight, shape `shape`, on the weight's device.
  at::Tensor dequantize(at::ScalarType dtype) const;
  // A copy on another device.
  c10::intrusive_ptr<QuantizedWeight> to(c10::Device device) const;
};

using QuantizedWeightPtr = c10::intrusive_ptr<QuantizedWeight>;

// Quantizes a contiguous float32, float16 or bfloat16 tensor where it lies.
QuantizedWeightPtr quantize(const at::Tensor& weight, kernels::QuantType type, std::int64_t block,
                            bool double_quantize);

}  // namespace qlora::tensor
