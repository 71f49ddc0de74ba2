// Writes a model of a given shape with random weights.

#include "qlora/base/log.h"
#include "qlora/base/text_util.h"
#include "qlora/config/command_line.h"
#include "qlora/run/random_model.h"
#include "qlora/tensor/bridge.h"

namespace {

int make(const qlora::run::RandomModelOptions& options) {
  qlora::tensor::share_torch_threads();
  const std::int64_t bytes = qlora::run::make_random_model(options);
  qlora::log::info("wrote {}, {}", options.output, qlora::human_bytes(bytes));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return qlora::config::run_main<qlora::run::RandomModelOptions>(
      argc, argv,
      {"Writes a model directory of a real model's shape with random weights.",
       "For measuring speed and memory without the model itself."},
      make);
}
