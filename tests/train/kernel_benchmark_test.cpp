// The figures that `benchmark kernels` derives from a time, and how it shows them.

#include "train/kernel_case.h"

#include "qlora/train/kernel_benchmark.h"
#include "support/gpu.h"
#include "support/message.h"

#include <gtest/gtest.h>

#include <set>

namespace qlora::train {
namespace {

constexpr Roofs kRoofs{.bytes_per_second = 4e12, .flops_per_second = 700e12};

TEST(KernelBenchmark, RowOfAKernelThatMemoryLimits) {
  const KernelFigure figure{
      .kernel = "rms_norm", .shape = "2048 x 2560", .seconds = 20e-6, .bytes = 60e6};
  EXPECT_EQ(table_row(figure, kRoofs),
            "rms_norm                 2048 x 2560                                  "
            "      20.0      3.00 TB/s      4.00 TB/s    75.0");
  const Json json = to_json(figure, kRoofs);
  EXPECT_EQ(json["kernel"].get<std::string>(), "rms_norm");
  EXPECT_EQ(json["shape"].get<std::string>(), "2048 x 2560");
  EXPECT_DOUBLE_EQ(json["microseconds"], 20);
  EXPECT_DOUBLE_EQ(json["tb_per_second"], 3);
  EXPECT_DOUBLE_EQ(json["percent_of_roof"], 75);
  EXPECT_FALSE(json.contains("tflop_per_second"));
  EXPECT_FALSE(json.contains("scratch_bytes"));
}

TEST(KernelBenchmark, RowOfAKernelThatTensorCoresLimit) {
  const KernelFigure figure{.kernel = "cudnn attention",
                            .shape = "2 x 1024",
                            .seconds = 100e-6,
                            .bytes = 40e6,
                            .flops = 35e9,
                            .scratch_bytes = 3 << 20};
  EXPECT_EQ(table_row(figure, kRoofs),
            "cudnn attention          2 x 1024                                     "
            "     100.0  350.0 TFLOP/s  700.0 TFLOP/s    50.0    3.00 MiB");
  const Json json = to_json(figure, kRoofs);
  EXPECT_DOUBLE_EQ(json["tb_per_second"], 0.4);
  EXPECT_DOUBLE_EQ(json["tflop_per_second"], 350);
  EXPECT_DOUBLE_EQ(json["percent_of_roof"], 50);
  EXPECT_EQ(json["scratch_bytes"].get<int>(), 3 << 20);
}

TEST(KernelBenchmark, TheLimitThatTakesLongerIsTheRoof) {
  KernelFigure figure{.seconds = 10e-6, .bytes = 20e6, .flops = 700e6};  // 5 us and 1 us at best
  EXPECT_DOUBLE_EQ(to_json(figure, kRoofs)["percent_of_roof"], 50);
  figure.flops = 5600e6;  // 8 us
  EXPECT_DOUBLE_EQ(to_json(figure, kRoofs)["percent_of_roof"], 80);
}

TEST(KernelBenchmark, ColumnsStandUnderTheirNames) {
  const std::string header = table_header();
  const std::string row = table_row(
      {.kernel = "k", .shape = "s", .seconds = 1e-6, .bytes = 1e6, .scratch_bytes = 1 << 20},
      kRoofs);
  EXPECT_EQ(row.size(), header.size());
  EXPECT_EQ(row.find("s "), header.find("shape"));
  EXPECT_EQ(row.find("1.0 ") + 3, header.find("us") + 2);
}

// Attention asks the device what it can do.
std::vector<KernelCase> cases_without_attention() {
  std::vector<KernelCase> all;
  for (const auto family : {weight_cases, activation_cases, optimizer_cases, product_cases}) {
    for (KernelCase& c : family()) all.push_back(std::move(c));
  }
  return all;
}

double bytes_of(const std::string& kernel, const std::string& shape) {
  for (const KernelCase& c : cases_without_attention()) {
    if (c.kernel == kernel && c.shape == shape) return c.bytes;
  }
  ADD_FAILURE() << "no row " << kernel << " " << shape;
  return 0;
}

TEST(KernelBenchmark, EveryRowFitsItsColumnsAndComesOnce) {
  std::set<std::string> names;
  for (const KernelCase& c : cases_without_attention()) {
    EXPECT_LE(c.kernel.size(), 24u) << c.kernel;
    EXPECT_LE(c.shape.size(), 44u) << c.shape;
    EXPECT_GT(c.bytes + c.flops, 0) << c.kernel;
    EXPECT_TRUE(names.insert(c.kernel + " " + c.shape).second) << c.kernel << " " << c.shape;
  }
}

// By hand, from what the kernels' headers say they read and write.
TEST(KernelBenchmark, LeastBytes) {
  // Half a byte of code, 1/64 of scale and 4/16384 of nested scale a weight; two bytes written.
  const double weights = 7168.0 * 2560;
  EXPECT_DOUBLE_EQ(bytes_of("dequantize_4bit nf4", "7168 x 2560"), weights * 41220.0 / 16384);
  // 2560 x (2560 + 64 columns) and 64 rows of 2560 are written; rank 16.
  EXPECT_DOUBLE_EQ(
      bytes_of("augment_weight", "out of exaone-3.5-2.4b, rank 16"),
      2.0 * (2560 * 2624 + 64 * 2560) + 2560.0 * 2560 * 8452 / 16384 + 2.0 * 16 * (2560 + 2560));
  EXPECT_DOUBLE_EQ(bytes_of("rms_norm_backward", "2048 x 2560"), 10.0 * 2048 * 2560 + 5120 + 8192);
  EXPECT_DOUBLE_EQ(bytes_of("adamw 8 bit", "16.8M, tensors: 1"), 16.0625 * 16777216);
  EXPECT_DOUBLE_EQ(bytes_of("adamw 32 bit", "16.8M, tensors: 1"), 28.0 * 16777216);
}

TEST(KernelBenchmark, SaysThatThereIsNoGpu) {
  if (c10::cuda::device_count() > 0) GTEST_SKIP() << "this machine has a GPU";
  EXPECT_EQ(test::message_of([] { benchmark_kernels({}); }),
            "--device cuda: no usable GPU was found; check nvidia-smi, or take --device cpu");
}

TEST(GpuKernelBenchmark, WritesTheFiguresOfTheChosenRows) {
  QLORA_REQUIRE_GPU();
  const auto file = qlora::test::fresh_folder("kernel_benchmark") / "kernels.json";
  benchmark_kernels({.json = file.string(), .filter = "2048 x 2560"});
  const Json json = read_json(file);
  EXPECT_GT(json["roof_tb_per_second"].get<double>(), 0);
  EXPECT_GT(json["roof_tflop_per_second"].get<double>(), 0);
  // Both roofs, rms_norm and its gradient, dropout, scatter_rows.
  ASSERT_EQ(json["kernels"].size(), 6u);
  EXPECT_EQ(json["kernels"][2]["kernel"].get<std::string>(), "rms_norm");
  for (const Json& figure : json["kernels"]) EXPECT_GT(figure["microseconds"].get<double>(), 0);
}

TEST(GpuKernelBenchmark, RefusesAFilterThatNothingMatches) {
  QLORA_REQUIRE_GPU();
  EXPECT_EQ(test::message_of([] { benchmark_kernels({.filter = "nothing like it"}); }),
            "--filter nothing like it: no row contains it; leave it out to see them all");
}

}  // namespace
}  // namespace qlora::train
