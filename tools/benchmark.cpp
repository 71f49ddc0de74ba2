// Measures how fast this machine trains and tokenizes.

#include "qlora/train/benchmark.h"
#include "qlora/base/error.h"
#include "qlora/config/command_line.h"
#include "qlora/tensor/bridge.h"
#include "qlora/text/benchmark.h"

#include <string>
#include <string_view>

namespace {

using namespace qlora;

int train_steps(const train::TrainBenchmark& options) {
  tensor::share_torch_threads();
  fmt::print("{}\n", train::benchmark_training(options));
  return 0;
}

int encode_lines(const text::TokenizerBenchmark& options) {
  fmt::print("{}\n", text::benchmark_tokenizer(options));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  // The options follow the name of what is measured.
  const std::string_view name = argc > 1 ? argv[1] : "";
  const std::string output = "The figures are one JSON object on standard output.";
  if (name == "tokenizer") {
    const config::ProgramInfo info{"benchmark tokenizer: measures a tokenizer on one core.",
                                   output};
    return config::run_main<text::TokenizerBenchmark>(argc - 1, argv + 1, info, encode_lines);
  }
  const config::ProgramInfo info{
      "benchmark train: measures training steps on random weights of a real model's shape.\n"
      "benchmark tokenizer: measures a tokenizer on one core.",
      output};
  const bool named = name == "train";
  return config::run_main<train::TrainBenchmark>(argc - named, argv + named, info, train_steps);
}
