// The augmented weight on the device against its CPU twin, and cuBLASLt's products against sums in
// double.

#include "kernels/augmented_group.h"
#include "kernels/gpu_support.h"
#include "qlora/kernels/matmul.h"

#include <algorithm>
#include <cmath>
#include <memory>

namespace qlora::kernels {
namespace {

using test::OnDevice;

class GpuAugmentedWeight : public test::GpuTest {};

// A host group's arrays on the device, under the same description.
class DeviceGroup {
 public:
  explicit DeviceGroup(const test::HostGroup& host) : group(host.group) {
    const void* map = put(test::copy_of<float>(std::as_bytes(std::span(kSignedMap.values))));
    for (std::size_t i = 0; i < group.count; ++i) {
      const test::HostPart& p = host.parts[i];
      AugmentedPart& part = group.parts[i];
      part.a = put(p.a);
      part.scaled_b = put(p.b);
      part.dense = part.dense == nullptr ? nullptr : put(p.dense);
      part.packed = static_cast<const std::uint8_t*>(put(p.packed));
      part.absmax.values = p.codes.empty() ? static_cast<const float*>(put(p.absmax)) : nullptr;
      if (p.codes.empty()) continue;
      part.absmax.codes = static_cast<const std::uint8_t*>(put(p.codes));
      part.absmax.nested_values = static_cast<const float*>(put(p.nested));
      part.absmax.nested_map = static_cast<const float*>(map);
    }
  }

  AugmentedGroup group;

 private:
  template <class T>
  const void* put(const std::vector<T>& values) {
    arrays_.push_back(std::make_unique<OnDevice>(values));
    return arrays_.back()->data();
  }
  std::vector<std::unique_ptr<OnDevice>> arrays_;
};

constexpr std::byte kUnwritten{0x5a};

// With the corner of extra rows and extra columns, which is never written, left as it was.
std::vector<std::byte> augmented_on_the_cpu(const AugmentedGroup& group, DType dtype) {
  const auto size = static_cast<std::int64_t>(size_of(dtype));
  std::vector<std::byte> out(static_cast<std::size_t>(group.element_count() * size));
  cpu::augment_weight(group, out.data(), dtype, nullptr);
  const std::int64_t row_bytes = group.stride() * size;
  for (std::int64_t row = group.padded_out(); row < group.padded_out() + group.extra(); ++row) {
    std::fill_n(out.begin() + row * row_bytes + group.padded_in() * size, group.extra() * size,
                kUnwritten);
  }
  return out;
}

TEST_F(GpuAugmentedWeight, EqualsTheCpuTwin) {
  for (const auto& c : test::kGroupCases) {
    for (const DType dtype : test::kFloatTypes) {
      for (const bool nested : {false, true}) {
        const test::HostGroup host(c.in, c.parts, dtype, nested);
        DeviceGroup device(host);
        const std::vector<std::byte> expected = augmented_on_the_cpu(host.group, dtype);
        OnDevice out{std::vector(expected.size(), kUnwritten)};
        cuda::augment_weight(device.group, out.data(), dtype, nullptr);
        test::expect_same(out, expected, fmt::format("{} {} {}", c.name, name_of(dtype), nested));
      }
    }
  }
}

class GpuMatmul : public test::GpuTest {};

struct MatmulCase {
  std::int64_t m, n, k;
  bool transpose_a, transpose_b, adds, bias;
  DType out;
  float alpha;
};

// Strides beyond the rows: the products work inside wider buffers.
cuda::MatmulShape shape_of(const MatmulCase& c) {
  return {.m = c.m,
          .n = c.n,
          .k = c.k,
          .transpose_a = c.transpose_a,
          .transpose_b = c.transpose_b,
          .a_stride = (c.transpose_a ? c.m : c.k) + 64,
          .b_stride = (c.transpose_b ? c.k : c.n) + 8,
          .c_stride = c.n + 16,
          .d_stride = c.n + 24,
          .in = DType::BFloat16,
          .out = c.out};
}

// One product in double, from the same rounded operands.
std::vector<double> reference(const MatmulCase& c, const cuda::MatmulShape& s,
                              const std::vector<std::byte>& a, const std::vector<std::byte>& b,
                              const std::vector<std::byte>& add,
                              const std::vector<std::byte>& bias) {
  std::vector<double> result(c.m * c.n);
  for (std::int64_t i = 0; i < c.m; ++i) {
    for (std::int64_t j = 0; j < c.n; ++j) {
      double sum = 0;
      for (std::int64_t p = 0; p < c.k; ++p) {
        const auto ia = c.transpose_a ? p * s.a_stride + i : i * s.a_stride + p;
        const auto ib = c.transpose_b ? j * s.b_stride + p : p * s.b_stride + j;
        sum += double{test::element(a.data(), s.in, ia)} * test::element(b.data(), s.in, ib);
      }
      sum *= c.alpha;
      if (c.adds) sum += test::element(add.data(), s.out, i * s.c_stride + j);
      if (c.bias) sum += test::element(bias.data(), s.in, j);
      result[i * c.n + j] = sum;
    }
  }
  return result;
}

TEST_F(GpuMatmul, EqualsSumsInDouble) {
  const MatmulCase cases[] = {
      {96, 64, 128, false, true, false, false, DType::BFloat16, 1},
      {96, 64, 128, false, true, true, true, DType::BFloat16, 1},
      {33, 40, 72, false, false, true, false, DType::BFloat16, 1},
      {64, 16, 200, true, false, true, false, DType::Float32, 0.5f},
      {16, 88, 136, true, false, false, false, DType::Float32, 2},
  };
  OnDevice workspace{std::vector<std::byte>(cuda::Matmul::kWorkspaceBytes)};
  for (const auto choice : {cuda::MatmulChoice::Heuristic, cuda::MatmulChoice::Measured}) {
    cuda::Matmul matmul(workspace.data(), choice);
    for (const MatmulCase& c : cases) {
      const cuda::MatmulShape s = shape_of(c);
      const auto fill = [](std::uint64_t seed, std::int64_t n, DType dtype) {
        return test::to_bytes(test::random_floats(seed, n), dtype);
      };
      const auto a = fill(1, (c.transpose_a ? c.k : c.m) * s.a_stride, s.in);
      const auto b = fill(2, (c.transpose_b ? c.n : c.k) * s.b_stride, s.in);
      const auto add = fill(3, c.m * s.c_stride, s.out);
      const auto bias = fill(4, c.n, s.in);
      const auto filler = fill(5, c.m * s.d_stride, s.out);
      OnDevice d_a(a), d_b(b), d_add(add), d_bias(bias), d_d(filler);
      matmul.run(s,
                 {.a = d_a.data(),
                  .b = d_b.data(),
                  .d = d_d.data(),
                  .c = c.adds ? d_add.data() : nullptr,
                  .bias = c.bias ? d_bias.data() : nullptr,
                  .alpha = c.alpha},
                 nullptr);
      const auto got = d_d.download();
      const auto want = reference(c, s, a, b, add, bias);
      // One rounding to the output type, and float32 sums over k.
      const double tolerance = c.out == DType::Float32 ? 2e-5 : 4e-3;
      double worst = 0, largest = 0;
      for (std::int64_t i = 0; i < c.m; ++i) {
        for (std::int64_t j = 0; j < s.d_stride; ++j) {
          const double value = test::element(got.data(), s.out, i * s.d_stride + j);
          if (j >= c.n) {
            EXPECT_EQ(value, test::element(filler.data(), s.out, i * s.d_stride + j));
            continue;
          }
          worst = std::max(worst, std::abs(value - want[i * c.n + j]));
          largest = std::max(largest, std::abs(want[i * c.n + j]));
        }
      }
      EXPECT_LE(worst, tolerance * largest) << c.m << 'x' << c.n << 'x' << c.k;
      EXPECT_GT(largest, 0);
    }
  }
}

TEST_F(GpuMatmul, AdoptsTheChoicesOfAnEarlierRun) {
  OnDevice workspace{std::vector<std::byte>(cuda::Matmul::kWorkspaceBytes)};
  const MatmulCase c{96, 64, 128, false, true, false, false, DType::BFloat16, 1};
  const cuda::MatmulShape s = shape_of(c);
  OnDevice a(test::to_bytes(test::random_floats(1, c.m * s.a_stride), s.in));
  OnDevice b(test::to_bytes(test::random_floats(2, c.n * s.b_stride), s.in));
  OnDevice d{std::vector<std::byte>(static_cast<std::size_t>(c.m * s.d_stride * 2))};
  cuda::Matmul first(workspace.data(), cuda::MatmulChoice::Measured);
  const std::string none = first.choices();
  first.run(s, {.a = a.data(), .b = b.data(), .d = d.data()}, nullptr);
  const std::string chosen = first.choices();
  EXPECT_NE(chosen, none);
  cuda::Matmul second(workspace.data(), cuda::MatmulChoice::Measured);
  second.adopt(chosen + "1 2 three\n");
  EXPECT_EQ(second.choices(), chosen);
  const auto before = d.download();
  second.run(s, {.a = a.data(), .b = b.data(), .d = d.data()}, nullptr);
  EXPECT_EQ(second.choices(), chosen) << "chosen anew";
  EXPECT_EQ(d.download(), before);
  cuda::Matmul other(workspace.data(), cuda::MatmulChoice::Measured);
  other.adopt("cuBLASLt 1 of another GPU" + chosen.substr(chosen.find('\n')));
  EXPECT_EQ(other.choices(), none);
}

}  // namespace
}  // namespace qlora::kernels
