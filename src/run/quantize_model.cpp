#include "qlora/run/quantize_model.h"

#include "qlora/base/error.h"
#include "qlora/base/file.h"
#include "qlora/base/narrow.h"
#include "qlora/io/hf_checkpoint.h"
#include "qlora/kernels/code_tables.h"
#include "qlora/run/output_directory.h"
#include "qlora/tensor/bridge.h"
#include "run/base_weight.h"

#include <ATen/ops/tensor.h>

#include <cmath>
#include <map>

namespace qlora::run {
namespace {

// The 16 codes as bitsandbytes stores them: its table says +0 where the kernels give FP4's -0.
at::Tensor stored_map(kernels::QuantType type) {
  const auto& codes = kernels::codes_of(type);
  return at::tensor(at::ArrayRef<float>(codes.values, codes.size())).add_(0.0F);
}

class ModelQuantizer {
 public:
  explicit ModelQuantizer(const QuantizeOptions& options)
      : options_(options),
        config_(io::read_model_config(options.model)),
        source_(io::open_weights(options.model)),
        tensors_(model_tensors(config_, *source_)),
        map_(stored_map(options.type)) {
    quantization_.load_in_4bit = true;
    quantization_.bnb_4bit_quant_type = options.type;
    quantization_.bnb_4bit_use_double_quant = options.double_quant;
    for (const ModelTensor& tensor : tensors_) {
      if (!source_->prequantized(tensor.name())) continue;
      fail("{}: is quantized already ('{}' is {})", options.model, tensor.name(),
           source_->info(tensor.name()).stored_as);
    }
  }

  QuantizeReport write(const std::filesystem::path& directory) {
    write_config(config_, lossless_dtype(*source_, tensors_.front()), stated(), directory);
    std::vector<io::TensorSpec> specs;
    for (const ModelTensor& tensor : tensors_) plan(tensor, specs);
    for (const io::TensorSpec& spec : specs) report_.stored_bytes += io::byte_count(spec);
    io::HfCheckpointWriter writer(directory, std::move(specs));
    for (const ModelTensor& tensor : tensors_) store(tensor, writer);
    writer.finish();
    copy_tokenizer(options_.model, directory);
    report_.relative_error = std::sqrt(squared_error_ / squared_norm_);
    return report_;
  }

 private:
  io::BnbQuantizationConfig stated() const {
    const bool half = lossless_dtype(*source_, tensors_.front()) == DType::Float16;
    return {.quant_type = std::string(enum_name(options_.type)),
            .use_double_quant = options_.double_quant,
            .compute_dtype = half ? DType::Float16 : DType::BFloat16,
            .skip_modules = quantization_.llm_int8_skip_modules};
  }

  // A file states its tensors' sizes first, and the length of a quant state's JSON depends on the
  // mean of the scales: with double quantization every weight is quantized twice, here to know it.
  void plan(const ModelTensor& tensor, std::vector<io::TensorSpec>& specs) {
    const std::string name = tensor.name();
    const DType dtype = lossless_dtype(*source_, tensor);
    if (!is_quantized_by(quantization_, tensor, *source_)) {
      specs.push_back({name, dtype, tensor.shape});
      return;
    }
    io::Bnb4bitState state{.quant_type = std::string(enum_name(options_.type)),
                           .blocksize = kernels::kDefaultBlock,
                           .dtype = dtype,
                           .shape = tensor.shape,
                           .nested = {}};
    if (options_.double_quant) {
      const auto weight = quantize_weight(read_lossless(*source_, tensor), quantization_);
      state.nested = {.blocksize = kernels::kNestedBlock, .offset = weight->offset};
    }
    const std::int64_t blocks = state.blocks();
    const std::string json = io::encode_bnb_state(state);
    specs.push_back({name, DType::UInt8, {(state.elements() + 1) / 2, 1}});
    specs.push_back(
        {name + ".absmax", options_.double_quant ? DType::UInt8 : DType::Float32, {blocks}});
    specs.push_back({name + ".quant_map", DType::Float32, {map_.numel()}});
    if (options_.double_quant) {
      specs.push_back(
          {name + ".nested_absmax", DType::Float32, {div_up(blocks, kernels::kNestedBlock)}});
      specs.push_back({name + ".nested_quant_map", DType::Float32, {256}});
    }
    specs.push_back({state_name(name), DType::UInt8, {static_cast<std::int64_t>(json.size())}});
    states_.emplace(name, json);
  }

  void store(const ModelTensor& tensor, io::HfCheckpointWriter& writer) {
    const std::string name = tensor.name();
    const at::Tensor original = read_lossless(*source_, tensor);
    const auto state = states_.find(name);
    if (state == states_.end()) {
      writer.write(name, tensor::bytes_of(original));
      return;
    }
    const auto weight = quantize_weight(original, quantization_);
    const auto part = [&](const char* suffix, const at::Tensor& value) {
      writer.write(name + suffix, tensor::bytes_of(value));
    };
    part("", weight->packed);
    part(".absmax", weight->nested() ? weight->absmax_codes : weight->absmax);
    part(".quant_map", map_);
    if (weight->nested()) {
      part(".nested_absmax", weight->nested_absmax);
      part(".nested_quant_map", weight->nested_map);
    }
    writer.write(state_name(name), std::as_bytes(std::span(state->second)));
    record(original.to(at::kFloat), *weight);
  }

  void record(const at::Tensor& original, const tensor::QuantizedWeight& weight) {
    ++report_.quantized;
    const at::Tensor error = weight.dequantize(at::kFloat).sub_(original);
    squared_norm_ += std::pow(original.norm().item<double>(), 2);
    squared_error_ += std::pow(error.norm().item<double>(), 2);
  }

  std::string state_name(const std::string& name) const {
    return name + io::bnb_state_suffix(enum_name(options_.type));
  }

  const QuantizeOptions& options_;
  io::ModelConfig config_;
  std::unique_ptr<io::WeightSource> source_;
  std::vector<ModelTensor> tensors_;
  tensor::QuantizationConfig quantization_;
  at::Tensor map_;
  std::map<std::string, std::string> states_;  // weight -> JSON of its quant state
  QuantizeReport report_;
  double squared_norm_ = 0;
  double squared_error_ = 0;
};

}  // namespace

QuantizeReport quantize_model(const QuantizeOptions& options) {
  const auto target = check_output(options.output, options.overwrite, {options.model});
  ModelQuantizer quantizer(options);
  AtomicDirectory directory(target);
  const QuantizeReport report = quantizer.write(directory.path());
  directory.commit();
  return report;
}

}  // namespace qlora::run
