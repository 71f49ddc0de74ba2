#include "qlora/kernels/dequantize_4bit.h"

#include "kernels/support.h"
#include "qlora/base/file.h"
#include "qlora/base/narrow.h"
#include "qlora/base/random.h"
#include "qlora/kernels/code_tables.h"
#include "qlora/kernels/dynamic_maps.h"

#include <algorithm>
#include <cmath>

namespace qlora::kernels {
namespace {

using test::Guarded;

std::vector<std::uint8_t> random_bytes(std::uint64_t seed, std::int64_t n) {
  const RandomStream stream(seed, "bytes");
  std::vector<std::uint8_t> bytes(static_cast<std::size_t>(n));
  for (std::int64_t i = 0; i < n; ++i) bytes[i] = static_cast<std::uint8_t>(stream.bits(i));
  return bytes;
}

// A tensor of random codes with plain or nested scales.
struct Tensor {
  std::int64_t n;
  std::int64_t block;
  std::vector<std::uint8_t> packed;
  std::vector<float> plain;
  std::vector<std::uint8_t> codes;
  std::vector<float> nested;

  Tensor(std::int64_t elements, std::int64_t block_size)
      : n(elements),
        block(block_size),
        packed(random_bytes(1, div_up<std::int64_t>(n, 2))),
        plain(test::random_floats(2, blocks())),
        codes(random_bytes(3, blocks())),
        nested(test::random_floats(4, div_up<std::int64_t>(blocks(), 256))) {}

  std::int64_t blocks() const { return div_up(n, block); }
  Absmax absmax(bool is_nested) const {
    if (!is_nested) return {.values = plain.data()};
    return {.codes = codes.data(),
            .nested_values = nested.data(),
            .nested_map = kSignedMap.values,
            .offset = 0.37f};
  }
  float scale(bool is_nested, std::int64_t b) const {
    if (!is_nested) return plain[b];
    const volatile float product = kSignedMap[codes[b]] * nested[b / 256];
    return product + 0.37f;
  }
};

void expect_range(const Tensor& tensor, QuantType type, DType dtype, bool nested,
                  std::int64_t begin, std::int64_t end) {
  const auto size = static_cast<std::int64_t>(size_of(dtype));
  Guarded packed(static_cast<std::int64_t>(tensor.packed.size()), 1);
  std::ranges::copy(std::as_bytes(std::span(tensor.packed)), packed.payload().begin());
  Guarded out((end - begin) * size, size);
  cpu::dequantize_4bit(type, packed.data<std::uint8_t>(), tensor.absmax(nested), begin, end,
                       tensor.block, out.data(), dtype, nullptr);
  std::vector<float> expected;
  for (std::int64_t i = begin; i < end; ++i) {
    const int byte = tensor.packed[i / 2];
    const int code = i % 2 == 0 ? byte / 16 : byte % 16;
    expected.push_back(codes_of(type)[code] * tensor.scale(nested, i / tensor.block));
  }
  EXPECT_EQ(test::first_difference(out.payload(), test::to_bytes(expected, dtype)), -1)
      << static_cast<int>(type) << " " << name_of(dtype) << " block " << tensor.block << " ["
      << begin << ", " << end << ")" << (nested ? " nested" : "");
}

TEST(Dequantize4bit, EqualsTheReferenceOnBothPaths) {
  for (const std::int64_t block : {32, 64, 128, 4096}) {
    for (const std::int64_t n : {1, 2, 33, 64, 95, 20011, 300001}) {
      const Tensor tensor(n, block);
      for (const QuantType type : {QuantType::NF4, QuantType::FP4}) {
        for (const DType dtype : test::kFloatTypes) {
          for (const bool nested : {false, true}) {
            expect_range(tensor, type, dtype, nested, 0, n);
            const test::PortableScope portable;
            expect_range(tensor, type, dtype, nested, 0, n);
          }
        }
      }
    }
  }
}

TEST(Dequantize4bit, RangesStartAtAnyBlock) {
  const Tensor tensor(64 * 600 + 5, 64);
  for (const DType dtype : test::kFloatTypes) {
    for (const bool nested : {false, true}) {
      expect_range(tensor, QuantType::NF4, dtype, nested, 64 * 3, 64 * 5);
      expect_range(tensor, QuantType::NF4, dtype, nested, 64 * 300, 64 * 301 + 7);
      expect_range(tensor, QuantType::NF4, dtype, nested, 64 * 600, tensor.n);
      expect_range(tensor, QuantType::NF4, dtype, nested, 64 * 7, 64 * 7);
    }
  }
}

// A slice of a real checkpoint with the output of bitsandbytes' CUDA kernel (data/README.md).
struct Slice {
  std::uint32_t format, elements, block;
  std::vector<std::byte> weight, absmax, map, nested_absmax, nested_map, expected;
  float offset;
};

Slice read_slice(const std::filesystem::path& path) {
  const MappedFile file(path);
  std::uint32_t header[9];
  Slice slice{};
  std::memcpy(header, file.bytes().data(), sizeof header);
  std::memcpy(&slice.offset, file.bytes().data() + sizeof header, 4);
  slice.format = header[0], slice.elements = header[1], slice.block = header[2];
  std::size_t start = sizeof header + 4;
  int run = 3;
  for (auto* part : {&slice.weight, &slice.absmax, &slice.map, &slice.nested_absmax,
                     &slice.nested_map, &slice.expected}) {
    *part = test::copy_of(file.bytes().subspan(start, header[run]));
    start += header[run++];
  }
  EXPECT_EQ(start, file.bytes().size());
  return slice;
}

void expect_slice(const std::string& name, QuantType type) {
  const auto path = qlora::test::data_path("quantized/bitsandbytes/" + name);
  QLORA_REQUIRE_DATA(path);
  const Slice slice = read_slice(path);
  const auto plain = test::copy_of<float>(slice.absmax);
  const auto codes = test::copy_of<std::uint8_t>(slice.absmax);
  const auto nested = test::copy_of<float>(slice.nested_absmax);
  const auto map = test::copy_of<float>(slice.nested_map);
  const Absmax absmax = slice.format == 2 ? Absmax{.codes = codes.data(),
                                                   .nested_values = nested.data(),
                                                   .nested_map = map.data(),
                                                   .offset = slice.offset}
                                          : Absmax{.values = plain.data()};
  for (const bool portable_only : {false, true}) {
    force_portable(portable_only);
    Guarded out(slice.elements * 2);
    cpu::dequantize_4bit(type, reinterpret_cast<const std::uint8_t*>(slice.weight.data()), absmax,
                         0, slice.elements, slice.block, out.data(), DType::BFloat16, nullptr);
    EXPECT_EQ(test::first_difference(out.payload(), slice.expected), -1) << name;
  }
  force_portable(false);
}

TEST(Dequantize4bit, RealNf4Slice) { expect_slice("llama_1b_nf4.bin", QuantType::NF4); }
TEST(Dequantize4bit, RealNf4DoubleQuantizedSlice) {
  expect_slice("llama_1b_nf4_double_quant.bin", QuantType::NF4);
}
TEST(Dequantize4bit, RealFp4Slice) { expect_slice("llama_1b_fp4.bin", QuantType::FP4); }

// The bfloat16 results above hide a fused multiply-add in the scales; these bits do not.
TEST(Dequantize4bit, NestedScalesRoundTheProductFirst) {
  const auto path = qlora::test::data_path("quantized/bitsandbytes/llama_1b_nf4_double_quant.bin");
  QLORA_REQUIRE_DATA(path);
  const Slice slice = read_slice(path);
  const auto codes = test::copy_of<std::uint8_t>(slice.absmax);
  const auto nested = test::copy_of<float>(slice.nested_absmax);
  const auto map = test::copy_of<float>(slice.nested_map);
  const auto blocks = static_cast<std::int64_t>(codes.size());
  const Absmax absmax{.codes = codes.data(),
                      .nested_values = nested.data(),
                      .nested_map = map.data(),
                      .offset = slice.offset};
  Guarded out(blocks * 4);
  cpu::dequantize_absmax(absmax, blocks, out.data<float>(), nullptr);
  int fused_differs = 0;
  for (std::int64_t b = 0; b < blocks; ++b) {
    const volatile float product = map[codes[b]] * nested[b / 256];
    const float expected = product + slice.offset;
    EXPECT_EQ(out.data<float>()[b], expected) << b;
    fused_differs += std::fma(map[codes[b]], nested[b / 256], slice.offset) != expected;
  }
  EXPECT_EQ(fused_differs, 11) << "of 64: the slice no longer tells the two apart";
}

}  // namespace
}  // namespace qlora::kernels
