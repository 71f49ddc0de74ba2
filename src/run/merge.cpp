#include "qlora/run/merge.h"

#include "qlora/base/error.h"
#include "qlora/base/file.h"
#include "qlora/io/hf_checkpoint.h"
#include "qlora/run/output_directory.h"
#include "qlora/run/training_base.h"
#include "qlora/tensor/bridge.h"
#include "qlora/text/chat_template.h"
#include "run/adapter_file.h"
#include "run/base_weight.h"

#include <ATen/ops/isfinite.h>

#include <cmath>

namespace qlora::run {
namespace {

double norm_of(const at::Tensor& tensor) { return tensor.norm().item<double>(); }

class Merger {
 public:
  explicit Merger(const MergeOptions& options)
      : options_(options),
        config_(io::read_model_config(options.base)),
        source_(io::open_weights(options.base)),
        tensors_(model_tensors(config_, *source_)),
        adapter_(options.adapter, tensors_),
        quantization_(
            quantization_under(read_training_base(options.adapter), options.base_weights)) {}

  MergeReport write(const std::filesystem::path& directory) {
    write_config(config_, options_.dtype, std::nullopt, directory);
    std::vector<io::TensorSpec> specs;
    for (const ModelTensor& tensor : tensors_) {
      specs.push_back({tensor.name(), options_.dtype, tensor.shape});
    }
    io::HfCheckpointWriter writer(directory, std::move(specs));
    for (const ModelTensor& tensor : tensors_) {
      writer.write(tensor.name(), tensor::bytes_of(merged(tensor)));
    }
    writer.finish();
    copy_tokenizer(options_.base, directory);
    const std::string chat_template = read_trained_template(options_.adapter);
    if (!chat_template.empty()) write_text(directory / text::kChatTemplateFile, chat_template);
    return finished_report();
  }

 private:
  at::Tensor merged(const ModelTensor& tensor) {
    auto replacement = adapter_.replacement(tensor);
    if (replacement) ++report_.replaced;
    at::Tensor weight =
        replacement ? *std::move(replacement) : base_weight(*source_, tensor, quantization_);
    const auto delta = adapter_.delta(tensor);
    const double before = delta ? norm_of(weight) : 0;
    if (delta) weight.add_(*delta);
    const at::Tensor rounded = weight.to(tensor::scalar_type(options_.dtype));
    if (!at::isfinite(rounded).all().item<bool>()) {
      fail("{}: the merged tensor '{}' has values that {} cannot hold; {}", options_.output,
           tensor.name(), name_of(options_.dtype),
           options_.dtype == DType::Float16 ? "try --dtype bfloat16" : "base or adapter is broken");
    }
    if (delta) record(tensor, before, norm_of(*delta), weight, rounded);
    return rounded;
  }

  void record(const ModelTensor& tensor, double before, double change, const at::Tensor& weight,
              const at::Tensor& rounded) {
    ++report_.adapted;
    const double relative = before > 0 ? change / before : 0;
    if (report_.most_changed.empty() || relative > report_.max_relative_change) {
      report_.max_relative_change = relative;
      report_.most_changed = tensor.name();
    }
    squared_before_ += before * before;
    squared_change_ += change * change;
    squared_after_ += std::pow(norm_of(weight), 2);
    squared_rounding_ += std::pow(norm_of(rounded.to(at::kFloat) - weight), 2);
  }

  MergeReport finished_report() const {
    MergeReport report = report_;
    const auto ratio = [](double a, double b) { return b > 0 ? std::sqrt(a / b) : 0; };
    report.relative_change = ratio(squared_change_, squared_before_);
    report.rounding_error = ratio(squared_rounding_, squared_after_);
    return report;
  }

  const MergeOptions& options_;
  io::ModelConfig config_;
  std::unique_ptr<io::WeightSource> source_;
  std::vector<ModelTensor> tensors_;
  AdapterFile adapter_;
  tensor::QuantizationConfig quantization_;
  MergeReport report_;
  double squared_before_ = 0;
  double squared_change_ = 0;
  double squared_after_ = 0;
  double squared_rounding_ = 0;
};

}  // namespace

MergeReport merge(const MergeOptions& options) {
  const auto target =
      check_output(options.output, options.overwrite, {options.base, options.adapter});
  Merger merger(options);
  AtomicDirectory directory(target);
  const MergeReport report = merger.write(directory.path());
  directory.commit();
  return report;
}

}  // namespace qlora::run
