// Puts an adapter into its base model.

#include "qlora/run/merge.h"
#include "qlora/base/log.h"
#include "qlora/config/command_line.h"
#include "qlora/tensor/bridge.h"

namespace {

int merge_model(const qlora::run::MergeOptions& options) {
  qlora::tensor::share_torch_threads();
  const qlora::run::MergeReport report = qlora::run::merge(options);
  qlora::log::info("merged {} layers, replaced {} tensors", report.adapted, report.replaced);
  if (report.adapted > 0) {
    qlora::log::info("change |dW|/|W| {:.3g}, largest {:.3g} in {}; rounding to {} {:.3g}",
                     report.relative_change, report.max_relative_change, report.most_changed,
                     qlora::name_of(options.dtype), report.rounding_error);
  }
  qlora::log::info("wrote {}", options.output);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return qlora::config::run_main<qlora::run::MergeOptions>(
      argc, argv,
      {"Merges a LoRA adapter into its base model, an HF directory of safetensors.",
       "Works through one tensor at a time. With --base_weights training (the default) the base is "
       "quantized as training_base.json beside the adapter says, dequantized and merged in "
       "float32."},
      merge_model);
}
