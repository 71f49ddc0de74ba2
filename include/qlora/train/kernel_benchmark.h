#pragma once
// How near the CUDA kernels that training spends its time in come to what the device can do.

#include "qlora/base/constraints.h"

#include <optional>
#include <string>

namespace qlora::train {

struct KernelBenchmark {
  std::optional<std::string> json;
  std::string filter;

  template <class V>
  void visit(V&& v) {
    v.field("json", json, "file that the figures are written to as well, as JSON");
    v.field("filter", filter, "measure only rows whose kernel or shape contains this text");
  }
};

// Prints a table to standard output, row by row as it is measured: median time on random data with
// a cold L2 cache, the rate that follows from the least that the kernel must move (TB/s) or
// compute (TFLOP/s), and the percentage of the roof, which is measured first: a copy within the
// device's memory, or a large bfloat16 product. Throws Error without a GPU, where no row
// contains the filter's text and where the JSON file cannot be written.
void benchmark_kernels(const KernelBenchmark& options);

}  // namespace qlora::train
