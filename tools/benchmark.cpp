// Measures how fast this machine trains.

#include "qlora/train/benchmark.h"
#include "qlora/base/error.h"
#include "qlora/config/command_line.h"
#include "qlora/tensor/bridge.h"

#include <string_view>

namespace {

using namespace qlora;

int train_steps(const train::TrainBenchmark& options) {
  tensor::share_torch_threads();
  fmt::print("{}\n", train::benchmark_training(options));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const config::ProgramInfo info{
      "benchmark train: measures training steps on random weights of a real model's shape.",
      "The figures are one JSON object on standard output."};
  // The options follow the name of what is measured.
  const bool named = argc > 1 && std::string_view(argv[1]) == "train";
  return config::run_main<train::TrainBenchmark>(argc - named, argv + named, info, train_steps);
}
