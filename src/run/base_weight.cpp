#include "run/base_weight.h"

#include "qlora/io/peft.h"
#include "qlora/models/load.h"

namespace qlora::run {

bool is_quantized_by(const tensor::QuantizationConfig& config, const ModelTensor& tensor,
                     const io::WeightSource& source) {
  if (!config.load_in_4bit || !tensor.is_linear_weight()) return false;
  if (source.prequantized(tensor.name())) return false;
  return !io::matches(config.llm_int8_skip_modules, tensor.module);
}

DType lossless_dtype(const io::WeightSource& source, const ModelTensor& tensor) {
  const DType stored = source.info(tensor.name()).dtype;
  return stored == DType::Float16 || stored == DType::BFloat16 ? stored : DType::Float32;
}

at::Tensor read_lossless(const io::WeightSource& source, const ModelTensor& tensor) {
  return models::read_weight(source, tensor.name(), lossless_dtype(source, tensor));
}

tensor::QuantizedWeightPtr quantize_weight(const at::Tensor& weight,
                                           const tensor::QuantizationConfig& config) {
  return tensor::quantize(weight, config.bnb_4bit_quant_type, kernels::kDefaultBlock,
                          config.bnb_4bit_use_double_quant);
}

at::Tensor base_weight(const io::WeightSource& source, const ModelTensor& tensor,
                       const tensor::QuantizationConfig& config) {
  if (is_quantized_by(config, tensor, source)) {
    return quantize_weight(read_lossless(source, tensor), config)->dequantize(at::kFloat);
  }
  return models::read_weight(source, tensor.name(), DType::Float32);
}

}  // namespace qlora::run
