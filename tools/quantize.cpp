// Writes a model with 4-bit weights.

#include "qlora/base/log.h"
#include "qlora/base/text_util.h"
#include "qlora/config/command_line.h"
#include "qlora/run/quantize_model.h"
#include "qlora/tensor/bridge.h"

namespace {

int quantize(const qlora::run::QuantizeOptions& options) {
  qlora::tensor::share_torch_threads();
  const qlora::run::QuantizeReport report = qlora::run::quantize_model(options);
  qlora::log::info("quantized {} weights, relative error {:.3g}", report.quantized,
                   report.relative_error);
  qlora::log::info("wrote {}, {}", options.output, qlora::human_bytes(report.stored_bytes));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return qlora::config::run_main<qlora::run::QuantizeOptions>(
      argc, argv,
      {"Quantizes a model's linear layers to 4 bits, in bitsandbytes' serialisation.",
       "The output is an HF directory that transformers and this project's programs load. The "
       "output projection, the embedding and the norms keep their type."},
      quantize);
}
