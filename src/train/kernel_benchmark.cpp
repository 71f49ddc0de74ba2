#include "qlora/train/kernel_benchmark.h"

#include "kernel_case.h"
#include "qlora/base/file.h"
#include "qlora/base/text_util.h"
#include "qlora/tensor/device.h"

#include <ATen/cuda/CUDAContext.h>
#include <ATen/cuda/CUDAEvent.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/randn.h>
#include <c10/cuda/CUDACachingAllocator.h>

#include <algorithm>
#include <cstdio>

namespace qlora::train {
namespace {

// More than any L2 cache.
constexpr std::int64_t kFlushBytes = std::int64_t{512} << 20;
// Writing it so often keeps the device busy until the host has queued the work behind it.
constexpr int kFlushes = 4;
constexpr int kWarmup = 3;
constexpr int kRepeats = 25;

constexpr std::int64_t kCopyBytes = std::int64_t{1} << 30;

// Median of what CUDA events say of single runs.
double median_seconds(const KernelWork& work, const at::Tensor& flush) {
  const auto stream = c10::cuda::getCurrentCUDAStream();
  at::cuda::CUDAEvent begin(cudaEventDefault), end(cudaEventDefault);
  std::vector<double> seconds;
  for (int i = -kWarmup; i < kRepeats; ++i) {
    if (work.reset) work.reset();
    for (int k = 0; k < kFlushes; ++k) {
      QLORA_CUDA(cudaMemsetAsync(flush.mutable_data_ptr(), k, flush.nbytes(), stream));
    }
    begin.record(stream);
    work.run();
    end.record(stream);
    end.synchronize();
    if (i >= 0) seconds.push_back(begin.elapsed_time(end) * 1e-3);
  }
  const auto middle = seconds.begin() + kRepeats / 2;
  std::nth_element(seconds.begin(), middle, seconds.end());
  return *middle;
}

KernelFigure measure(const KernelCase& c, const at::Tensor& flush) {
  KernelFigure figure{
      .kernel = c.kernel, .shape = c.shape, .seconds = 0, .bytes = c.bytes, .flops = c.flops};
  {
    const KernelWork work = c.prepare();
    figure.scratch_bytes = work.scratch_bytes;
    figure.seconds = median_seconds(work, flush);
  }
  c10::cuda::CUDACachingAllocator::emptyCache();
  return figure;
}

std::vector<KernelCase> chosen_cases(const std::string& filter) {
  std::vector<KernelCase> chosen;
  for (const auto family :
       {weight_cases, activation_cases, optimizer_cases, product_cases, attention_cases}) {
    for (KernelCase& c : family()) {
      if ((c.kernel + " " + c.shape).find(filter) != std::string::npos) {
        chosen.push_back(std::move(c));
      }
    }
  }
  if (chosen.empty()) {
    fail("--filter {}: no row contains it; leave it out to see them all", filter);
  }
  return chosen;
}

// The limit that binds.
bool computes(const KernelFigure& figure, const Roofs& roofs) {
  return figure.flops / roofs.flops_per_second > figure.bytes / roofs.bytes_per_second;
}

double percent_of_roof(const KernelFigure& figure, const Roofs& roofs) {
  const double least =
      std::max(figure.flops / roofs.flops_per_second, figure.bytes / roofs.bytes_per_second);
  return 100 * least / figure.seconds;
}

std::string rate(double per_second, bool of_flops) {
  return of_flops ? fmt::format("{:.1f} TFLOP/s", per_second * 1e-12)
                  : fmt::format("{:.2f} TB/s", per_second * 1e-12);
}

std::string table_line(const std::string& kernel, const std::string& shape, const std::string& us,
                       const std::string& reached, const std::string& roof,
                       const std::string& percent, const std::string& scratch) {
  const std::string line = fmt::format("{:<24} {:<44} {:>10} {:>14} {:>14} {:>7} {:>11}", kernel,
                                       shape, us, reached, roof, percent, scratch);
  return line.substr(0, line.find_last_not_of(' ') + 1);
}

void print_line(const std::string& line) {
  fmt::print("{}\n", line);
  std::fflush(stdout);
}

}  // namespace

std::string table_header() {
  return table_line("kernel", "shape", "us", "reached", "roof", "%", "scratch");
}

std::string table_row(const KernelFigure& figure, const Roofs& roofs) {
  const bool of_flops = computes(figure, roofs);
  const double work = of_flops ? figure.flops : figure.bytes;
  return table_line(figure.kernel, figure.shape, fmt::format("{:.1f}", figure.seconds * 1e6),
                    rate(work / figure.seconds, of_flops),
                    rate(of_flops ? roofs.flops_per_second : roofs.bytes_per_second, of_flops),
                    fmt::format("{:.1f}", percent_of_roof(figure, roofs)),
                    figure.scratch_bytes > 0 ? human_bytes(figure.scratch_bytes) : "");
}

Json to_json(const KernelFigure& figure, const Roofs& roofs) {
  Json json{
      {"kernel", figure.kernel}, {"shape", figure.shape}, {"microseconds", figure.seconds * 1e6}};
  if (figure.bytes > 0) json["tb_per_second"] = figure.bytes / figure.seconds * 1e-12;
  if (figure.flops > 0) json["tflop_per_second"] = figure.flops / figure.seconds * 1e-12;
  json["percent_of_roof"] = percent_of_roof(figure, roofs);
  if (figure.scratch_bytes > 0) json["scratch_bytes"] = figure.scratch_bytes;
  return json;
}

at::Tensor gpu_empty(at::IntArrayRef sizes, at::ScalarType type) {
  return at::empty(sizes, at::TensorOptions(at::kCUDA).dtype(type));
}

at::Tensor gpu_random(at::IntArrayRef sizes, double scale, at::ScalarType type) {
  return at::randn(sizes, at::TensorOptions(at::kCUDA).dtype(type)).mul_(scale);
}

// Every byte is read and written.
KernelCase device_copy_case() {
  return {
      .kernel = "copy", .shape = "1 GiB", .bytes = 2.0 * kCopyBytes, .prepare = [] {
        const at::Tensor from = gpu_random({kCopyBytes / 2});
        const at::Tensor to = gpu_empty({kCopyBytes / 2});
        return KernelWork{[=] {
          QLORA_CUDA(cudaMemcpyAsync(to.mutable_data_ptr(), from.const_data_ptr(), kCopyBytes,
                                     cudaMemcpyDeviceToDevice, c10::cuda::getCurrentCUDAStream()));
        }};
      }};
}

void benchmark_kernels(const KernelBenchmark& options) {
  tensor::choose_device("cuda");
  const std::vector<KernelCase> cases = chosen_cases(options.filter);
  std::optional<AtomicFile> file;
  if (options.json) file.emplace(*options.json);
  const at::Tensor flush = gpu_empty({kFlushBytes}, at::kByte);
  std::vector<KernelFigure> figures = {measure(device_copy_case(), flush),
                                       measure(large_product_case(), flush)};
  const Roofs roofs{.bytes_per_second = figures[0].bytes / figures[0].seconds,
                    .flops_per_second = figures[1].flops / figures[1].seconds};
  print_line(table_header());
  for (const KernelFigure& figure : figures) print_line(table_row(figure, roofs));
  for (const KernelCase& c : cases) {
    figures.push_back(measure(c, flush));
    print_line(table_row(figures.back(), roofs));
  }
  if (!file) return;
  Json json{{"device", at::cuda::getCurrentDeviceProperties()->name},
            {"roof_tb_per_second", roofs.bytes_per_second * 1e-12},
            {"roof_tflop_per_second", roofs.flops_per_second * 1e-12},
            {"kernels", Json::array()}};
  for (const KernelFigure& figure : figures) json["kernels"].push_back(to_json(figure, roofs));
  file->write(json.dump(2) + "\n");
  file->commit();
}

}  // namespace qlora::train
