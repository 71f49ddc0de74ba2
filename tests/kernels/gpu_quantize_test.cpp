// The CUDA kernels of quantization and dropout against their CPU twins, bit for bit.

#include "kernels/gpu_support.h"
#include "qlora/base/narrow.h"
#include "qlora/kernels/dequantize_4bit.h"
#include "qlora/kernels/dropout.h"
#include "qlora/kernels/dynamic_maps.h"
#include "qlora/kernels/quantize_4bit.h"

#include <cmath>

namespace qlora::kernels {
namespace {

using test::expect_same;
using test::OnDevice;

constexpr QuantType kTypes[] = {QuantType::NF4, QuantType::FP4};

class GpuQuantize : public test::GpuTest {};

// Random values with the exact bounds of the codes, a block of zeros, denormals, NaN and Inf.
std::vector<float> hard_values(std::int64_t n) {
  std::vector<float> x = test::random_floats(n, n, 0.1f);
  const auto bounds = test::random_floats(9, 64);
  for (std::int64_t i = 64; i < std::min<std::int64_t>(128, n); ++i) x[i] = 0;
  for (std::int64_t i = 128; i < std::min<std::int64_t>(192, n); ++i)
    x[i] = bounds[i - 128] * 1e-40f;
  if (n > 260) x[200] = std::nanf(""), x[257] = INFINITY;
  return x;
}

TEST_F(GpuQuantize, FourBitEqualsTheCpu) {
  for (const QuantType type : kTypes) {
    for (const DType dtype : test::kFloatTypes) {
      for (const std::int64_t block : {32, 64, 256, 4096}) {
        for (const std::int64_t n : {1, 2, 33, 63, 1000, 4097, 70001}) {
          const auto weight = test::to_bytes(hard_values(n), dtype);
          std::vector<std::uint8_t> packed(div_up<std::int64_t>(n, 2));
          std::vector<float> absmax(div_up(n, block));
          OnDevice d_weight(weight), d_packed(packed), d_absmax(absmax);
          cpu::quantize_4bit(type, weight.data(), dtype, n, block, packed.data(), absmax.data(),
                             nullptr);
          cuda::quantize_4bit(type, d_weight.data(), dtype, n, block, d_packed.data<std::uint8_t>(),
                              d_absmax.data<float>(), nullptr);
          const std::string where =
              fmt::format("{} {} block {} n {}", static_cast<int>(type), name_of(dtype), block, n);
          expect_same(d_absmax, absmax, where);
          expect_same(d_packed, packed, where);
        }
      }
    }
  }
}

TEST_F(GpuQuantize, NestedScalesEqualTheCpu) {
  for (const std::int64_t blocks : {1, 255, 256, 257, 5003, 100000}) {
    std::vector<float> absmax = test::random_floats(blocks, blocks);
    for (float& value : absmax) value = std::fabs(value);
    std::vector<std::uint8_t> codes(blocks);
    std::vector<float> nested(div_up<std::int64_t>(blocks, 256)), offset(1), plain(blocks);
    OnDevice d_absmax(absmax), d_codes(codes), d_nested(nested), d_offset(offset), d_plain(plain);
    OnDevice d_map(test::copy_of(std::as_bytes(std::span(kSignedMap.values))));
    cpu::quantize_absmax(absmax.data(), blocks, codes.data(), nested.data(), offset.data(),
                         nullptr);
    cuda::quantize_absmax(d_absmax.data<float>(), blocks, d_codes.data<std::uint8_t>(),
                          d_nested.data<float>(), d_offset.data<float>(), nullptr);
    const std::string where = fmt::format("{} blocks", blocks);
    expect_same(d_offset, offset, where);
    expect_same(d_nested, nested, where);
    expect_same(d_codes, codes, where);
    // The bits of the scales themselves: a fused multiply-add would show here.
    cpu::dequantize_absmax({.codes = codes.data(),
                            .nested_values = nested.data(),
                            .nested_map = kSignedMap.values,
                            .offset = offset[0]},
                           blocks, plain.data(), nullptr);
    cuda::dequantize_absmax({.codes = d_codes.data<std::uint8_t>(),
                             .nested_values = d_nested.data<float>(),
                             .nested_map = d_map.data<float>(),
                             .offset = offset[0]},
                            blocks, d_plain.data<float>(), nullptr);
    expect_same(d_plain, plain, where);
  }
}

class GpuDequantize : public test::GpuTest {};

// Random codes and scales on both sides.
struct Tensor {
  std::vector<float> floats;
  std::vector<std::uint8_t> packed, codes;
  std::vector<float> plain, nested;
  OnDevice d_packed, d_codes, d_plain, d_nested, d_map;

  Tensor(std::int64_t n, std::int64_t block)
      : floats(test::random_floats(n, div_up<std::int64_t>(n, 2))),
        packed(low_bytes(floats, floats.size())),
        codes(low_bytes(floats, div_up(n, block))),
        plain(test::random_floats(2, div_up(n, block))),
        nested(test::random_floats(4, div_up<std::int64_t>(div_up(n, block), 256))),
        d_packed(packed),
        d_codes(codes),
        d_plain(plain),
        d_nested(nested),
        d_map(test::copy_of(std::as_bytes(std::span(kSignedMap.values)))) {}

  static std::vector<std::uint8_t> low_bytes(const std::vector<float>& values, std::size_t n) {
    std::vector<std::uint8_t> bytes(n);
    for (std::size_t i = 0; i < n; ++i) {
      bytes[i] = static_cast<std::uint8_t>(static_cast<int>(std::fabs(values[i]) * 65536));
    }
    return bytes;
  }
  Absmax host(bool is_nested) const {
    if (!is_nested) return {.values = plain.data()};
    return {.codes = codes.data(),
            .nested_values = nested.data(),
            .nested_map = kSignedMap.values,
            .offset = 0.37f};
  }
  Absmax device(bool is_nested) {
    if (!is_nested) return {.values = d_plain.data<float>()};
    return {.codes = d_codes.data<std::uint8_t>(),
            .nested_values = d_nested.data<float>(),
            .nested_map = d_map.data<float>(),
            .offset = 0.37f};
  }
};

void expect_range(Tensor& tensor, std::int64_t block, std::int64_t begin, std::int64_t end) {
  for (const QuantType type : kTypes) {
    for (const DType dtype : test::kFloatTypes) {
      for (const bool nested : {false, true}) {
        std::vector<std::byte> out((end - begin) * size_of(dtype));
        OnDevice d_out(out);
        cpu::dequantize_4bit(type, tensor.packed.data(), tensor.host(nested), begin, end, block,
                             out.data(), dtype, nullptr);
        cuda::dequantize_4bit(type, tensor.d_packed.data<std::uint8_t>(), tensor.device(nested),
                              begin, end, block, d_out.data(), dtype, nullptr);
        expect_same(d_out, out,
                    fmt::format("{} {} block {} [{}, {}) nested {}", static_cast<int>(type),
                                name_of(dtype), block, begin, end, nested));
      }
    }
  }
}

TEST_F(GpuDequantize, EqualsTheCpu) {
  for (const std::int64_t block : {32, 64, 128, 4096}) {
    for (const std::int64_t n : {1, 2, 7, 33, 64, 95, 4095, 20011, 300001}) {
      Tensor tensor(n, block);
      expect_range(tensor, block, 0, n);
    }
  }
}

TEST_F(GpuDequantize, RangesEqualTheCpu) {
  const std::int64_t n = 64 * 600 + 5;
  Tensor tensor(n, 64);
  expect_range(tensor, 64, 64 * 3, 64 * 5);
  expect_range(tensor, 64, 64 * 300, 64 * 301 + 7);
  expect_range(tensor, 64, 64 * 600, n);
  expect_range(tensor, 64, 64, 64);
}

class GpuDropout : public test::GpuTest {};

TEST_F(GpuDropout, EqualsTheCpu) {
  const std::int64_t rows = 7;
  std::vector<std::int64_t> samples, positions;
  for (std::int64_t r = 0; r < rows; ++r) {
    samples.push_back((r / 3 + 1) * 0x100000005ll);
    positions.push_back(r % 3 + (r == 1 ? 0xfffffff0ll : 0));
  }
  OnDevice d_samples(samples), d_positions(positions);
  const DropoutKey key{.seed = 0x123456789abcdefull, .module = 0xfedcba987654321ull};
  for (const std::int64_t cols : {1, 3, 8, 31, 64, 1023, 2560, 5000}) {
    for (const DType dtype : test::kFloatTypes) {
      // Aligned rows take the 16-byte path, shifted ones do not.
      for (const auto misalign : {std::int64_t{0}, static_cast<std::int64_t>(size_of(dtype))}) {
        const auto x = test::to_bytes(test::random_floats(cols, rows * cols), dtype);
        std::vector<std::byte> out(x.size());
        OnDevice d_x(x, misalign), d_out(out, misalign);
        cpu::dropout(x.data(), dtype, rows, cols, samples.data(), positions.data(), key, 0.3f,
                     out.data(), nullptr);
        cuda::dropout(d_x.data(), dtype, rows, cols, d_samples.data<std::int64_t>(),
                      d_positions.data<std::int64_t>(), key, 0.3f, d_out.data(), nullptr);
        cuda::dropout(d_x.data(), dtype, rows, cols, d_samples.data<std::int64_t>(),
                      d_positions.data<std::int64_t>(), key, 0.3f, d_x.data(), nullptr);
        const std::string where = fmt::format("{} cols {} + {}", name_of(dtype), cols, misalign);
        expect_same(d_out, out, where);
        expect_same(d_x, out, where + ", in place");
      }
    }
  }
}

}  // namespace
}  // namespace qlora::kernels
