#pragma once
// One row of `benchmark kernels`: what is run, and the least that it must move and compute. A new
// row is one more KernelCase in the list of its family.

#include "qlora/base/json.h"
#include "qlora/kernels/cuda_check.h"
#include "qlora/kernels/matmul.h"

#include <ATen/core/Tensor.h>
#include <cuda_runtime_api.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace qlora::train {

// Inputs in GPU memory, kept alive by the functions, and the work on them.
struct KernelWork {
  std::function<void()> run;         // queued on the current stream; this is timed
  std::function<void()> reset = {};  // before each run: restores inputs that it overwrites
  std::int64_t scratch_bytes = 0;    // taken beside inputs and outputs
};

struct KernelCase {
  std::string kernel;
  std::string shape;
  double bytes = 0;  // to be read and written at least, each byte once
  double flops = 0;  // multiplications and additions; 0 where the bytes alone count
  std::function<KernelWork()> prepare;
};

// What the device reaches where nothing but memory, or nothing but tensor cores, is at work.
struct Roofs {
  double bytes_per_second = 0;
  double flops_per_second = 0;
};

struct KernelFigure {
  std::string kernel;
  std::string shape;
  double seconds = 0;
  double bytes = 0;
  double flops = 0;
  std::int64_t scratch_bytes = 0;
};

// The table's first line, and a line for each figure: its rate and its roof are those of bytes or
// of flops, whichever takes longer at the roofs.
std::string table_header();
std::string table_row(const KernelFigure& figure, const Roofs& roofs);
// The same: microseconds, tb_per_second, tflop_per_second, percent_of_roof, scratch_bytes.
Json to_json(const KernelFigure& figure, const Roofs& roofs);

// The families.
std::vector<KernelCase> weight_cases();
std::vector<KernelCase> activation_cases();
std::vector<KernelCase> optimizer_cases();
std::vector<KernelCase> product_cases();
std::vector<KernelCase> attention_cases();
// The two that are the roofs.
KernelCase device_copy_case();
KernelCase large_product_case();

// On the current GPU. Values are normally distributed.
at::Tensor gpu_empty(at::IntArrayRef sizes, at::ScalarType type = at::kBFloat16);
at::Tensor gpu_random(at::IntArrayRef sizes, double scale = 1, at::ScalarType type = at::kBFloat16);

// The bytes of `values`.
template <class T>
at::Tensor gpu_copy(const std::vector<T>& values) {
  const at::Tensor copy =
      gpu_empty({static_cast<std::int64_t>(values.size() * sizeof(T))}, at::kByte);
  QLORA_CUDA(
      cudaMemcpy(copy.mutable_data_ptr(), values.data(), copy.nbytes(), cudaMemcpyHostToDevice));
  return copy;
}

inline kernels::Rows rows_of(const at::Tensor& matrix) {
  return {matrix.mutable_data_ptr(), matrix.stride(0)};
}

// Products with their workspace, each shape by the fastest algorithm, as in training.
struct Products {
  at::Tensor workspace = gpu_empty({kernels::cuda::Matmul::kWorkspaceBytes}, at::kByte);
  kernels::cuda::Matmul matmul{workspace.mutable_data_ptr(), kernels::cuda::MatmulChoice::Measured};
};

// Tokens of a micro-step: one that is limited by latencies, and one by the device's rates.
inline constexpr std::int64_t kTokenCounts[] = {2048, 16384};
inline constexpr std::int64_t kLoraRank = 16;
// Whose sizes the rows are measured at.
inline constexpr std::string_view kMeasuredModels[] = {"exaone-3.5-2.4b", "llama-3-8b"};

}  // namespace qlora::train
