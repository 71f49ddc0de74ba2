// Measures how fast this machine trains and tokenizes, and how near its kernels come to the GPU's
// limits.

#include "qlora/train/benchmark.h"
#include "qlora/base/error.h"
#include "qlora/config/command_line.h"
#include "qlora/tensor/bridge.h"
#include "qlora/text/benchmark.h"
#include "qlora/train/kernel_benchmark.h"

#include <string>
#include <string_view>

namespace {

using namespace qlora;

int train_steps(const train::TrainBenchmark& options) {
  tensor::share_torch_threads();
  fmt::print("{}\n", train::benchmark_training(options));
  return 0;
}

int measure_kernels(const train::KernelBenchmark& options) {
  train::benchmark_kernels(options);
  return 0;
}

int encode_lines(const text::TokenizerBenchmark& options) {
  fmt::print("{}\n", text::benchmark_tokenizer(options));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string output = "The figures are one JSON object on standard output.";
  const config::ProgramInfo training{
      "benchmark train: measures training steps on random weights of a real model's shape.",
      output +
          " `benchmark kernels --help` and\n`benchmark tokenizer --help` describe the others."};
  const config::ProgramInfo kernels{
      "benchmark kernels: measures the CUDA kernels of training against the GPU's limits."};
  const config::ProgramInfo tokenizer{"benchmark tokenizer: measures a tokenizer on one core.",
                                      output};
  // The options follow the name of what is measured.
  const std::string_view name = argc > 1 ? argv[1] : "";
  if (name == "kernels") {
    return config::run_main<train::KernelBenchmark>(argc - 1, argv + 1, kernels, measure_kernels);
  }
  if (name == "tokenizer") {
    return config::run_main<text::TokenizerBenchmark>(argc - 1, argv + 1, tokenizer, encode_lines);
  }
  const bool named = name == "train";
  return config::run_main<train::TrainBenchmark>(argc - named, argv + named, training, train_steps);
}
