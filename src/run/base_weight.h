#pragma once
// One weight of a base model at a time, as training had it.

#include "qlora/run/model_tensors.h"
#include "qlora/tensor/quantization_config.h"
#include "qlora/tensor/quantized_weight.h"

namespace qlora::run {

// Whether models::load with these settings quantizes the weight; one that is stored in 4 bits
// already keeps its bytes.
bool is_quantized_by(const tensor::QuantizationConfig& config, const ModelTensor& tensor,
                     const io::WeightSource& source);

// The type in which a stored weight is read without loss.
DType lossless_dtype(const io::WeightSource& source, const ModelTensor& tensor);

// As it is stored, dense, in lossless_dtype, on the CPU.
at::Tensor read_lossless(const io::WeightSource& source, const ModelTensor& tensor);

// The same quantized, with the bits that models::load gives.
tensor::QuantizedWeightPtr quantize_weight(const at::Tensor& weight,
                                           const tensor::QuantizationConfig& config);

// float32, on the CPU, quantized and dequantized where the settings say so.
at::Tensor base_weight(const io::WeightSource& source, const ModelTensor& tensor,
                       const tensor::QuantizationConfig& config);

}  // namespace qlora::run
