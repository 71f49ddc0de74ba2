// Against the reference results of the HF stack under tests/data/quant and tests/data/adamw8bit.

#include "kernels/adamw_tensors.h"
#include "qlora/kernels/dequantize_4bit.h"
#include "qlora/kernels/dynamic_maps.h"
#include "qlora/kernels/quantize_4bit.h"

#include <cmath>

namespace qlora::kernels {
namespace {

using Goldens = std::map<std::string, std::vector<std::byte>>;

const Goldens& quant_goldens() {
  static const Goldens goldens = test::read_goldens("quant/quant.safetensors");
  return goldens;
}

// Everything that quantizing one input gives, under the goldens' names.
Goldens quantized(QuantType type, const std::vector<float>& x, bool nested) {
  const auto n = static_cast<std::int64_t>(x.size());
  const std::int64_t blocks = div_up(n, kDefaultBlock);
  std::vector<std::uint8_t> packed(div_up<std::int64_t>(n, 2)), codes(blocks);
  std::vector<float> plain(blocks), nested_values(div_up(blocks, kNestedBlock)), offset(1);
  cpu::quantize_4bit(type, x.data(), DType::Float32, n, kDefaultBlock, packed.data(), plain.data(),
                     nullptr);
  Absmax absmax{.values = plain.data()};
  Goldens result;
  const auto put = [&](const std::string& name, const auto& values) {
    result[name] = test::copy_of(std::as_bytes(std::span(values)));
  };
  if (nested) {
    cpu::quantize_absmax(plain.data(), blocks, codes.data(), nested_values.data(), offset.data(),
                         nullptr);
    absmax = {.codes = codes.data(),
              .nested_values = nested_values.data(),
              .nested_map = kSignedMap.values,
              .offset = offset[0]};
    put("absmax_codes", codes), put("nested_absmax", nested_values), put("nested_offset", offset);
  } else {
    put("absmax", plain);
  }
  put("packed", packed);
  for (const auto& [name, dtype] :
       {std::pair{"f32", DType::Float32}, {"f16", DType::Float16}, {"bf16", DType::BFloat16}}) {
    std::vector<std::byte> out(n * size_of(dtype));
    cpu::dequantize_4bit(type, packed.data(), absmax, 0, n, kDefaultBlock, out.data(), dtype,
                         nullptr);
    put(name, out);
  }
  return result;
}

void expect_case(const std::string& input, const std::string& kind) {
  const Goldens& goldens = quant_goldens();
  const std::string key = input + "." + kind + ".reference.";
  if (!goldens.contains(key + "packed")) return;  // not every input has both forms
  const auto type = kind.starts_with("nf4") ? QuantType::NF4 : QuantType::FP4;
  const auto x = test::copy_of<float>(std::span<const std::byte>(goldens.at(input + ".input")));
  const Goldens found = quantized(type, x, kind.ends_with("_double"));
  for (const auto& [name, bytes] : found) {
    const auto expected = goldens.find(key + name);
    if (expected == goldens.end()) continue;
    EXPECT_EQ(test::first_difference(bytes, expected->second), -1) << key + name;
  }
}

TEST(Golden, QuantizationEqualsTheReferenceToTheBit) {
  int inputs = 0;
  for (const auto& [name, bytes] : quant_goldens()) {
    if (!name.ends_with(".input")) continue;
    const std::string input = name.substr(0, name.find('.'));
    for (const char* kind : {"nf4", "nf4_double", "fp4", "fp4_double"}) expect_case(input, kind);
    ++inputs;
  }
  EXPECT_GE(inputs, 9);
}

// bitsandbytes' CPU path dequantizes with the stored map, whose code 8 is +0 where its kernels and
// ours give -0: turns the sign of those results.
void turn_sign_of_code_8(const std::vector<std::uint8_t>& packed, std::size_t element_size,
                         std::vector<std::byte>& out) {
  for (std::size_t i = 0; i < out.size() / element_size; ++i) {
    const int code = i % 2 == 0 ? packed[i / 2] >> 4 : packed[i / 2] & 15;
    if (code == 8) out[(i + 1) * element_size - 1] ^= std::byte{0x80};
  }
}

// What bitsandbytes made dequantizes to what bitsandbytes says, in all three types.
void expect_peer(const std::string& key, QuantType type, bool nested) {
  const Goldens& goldens = quant_goldens();
  const auto get = [&](const std::string& name) -> std::span<const std::byte> {
    const auto it = goldens.find(key + name);
    return it == goldens.end() ? std::span<const std::byte>() : it->second;
  };
  const auto packed = test::copy_of<std::uint8_t>(get("packed"));
  const auto plain = test::copy_of<float>(get("absmax"));
  const auto codes = test::copy_of<std::uint8_t>(get("absmax_codes"));
  const auto nested_values = test::copy_of<float>(get("nested_absmax"));
  const auto offset = test::copy_of<float>(get("nested_offset"));
  const Absmax absmax = nested ? Absmax{.codes = codes.data(),
                                        .nested_values = nested_values.data(),
                                        .nested_map = kSignedMap.values,
                                        .offset = offset[0]}
                               : Absmax{.values = plain.data()};
  for (const auto& [name, dtype] :
       {std::pair{"f32", DType::Float32}, {"f16", DType::Float16}, {"bf16", DType::BFloat16}}) {
    const auto expected = get(name);
    if (expected.empty()) continue;
    std::vector<std::byte> out(expected.size());
    cpu::dequantize_4bit(type, packed.data(), absmax, 0,
                         static_cast<std::int64_t>(out.size() / size_of(dtype)), kDefaultBlock,
                         out.data(), dtype, nullptr);
    if (type == QuantType::FP4) turn_sign_of_code_8(packed, size_of(dtype), out);
    EXPECT_EQ(test::first_difference(out, expected), -1) << key << name;
  }
}

TEST(Golden, DequantizesWhatBitsandbytesQuantized) {
  int cases = 0;
  for (const auto& [name, bytes] : quant_goldens()) {
    if (!name.ends_with(".bitsandbytes.packed")) continue;
    const auto type = name.find(".nf4") != std::string::npos ? QuantType::NF4 : QuantType::FP4;
    expect_peer(name.substr(0, name.size() - 6), type, name.find("_double") != std::string::npos);
    ++cases;
  }
  EXPECT_GE(cases, 34);
}

// The goldens' gradient of a step: splitmix64 of stream 300 + step (tools/dev/goldens/common.py).
float uniform(std::uint64_t stream, std::uint64_t index) {
  std::uint64_t z = ((stream + 1) << 40) + index + 0x9E3779B97F4A7C15ull;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  z ^= z >> 31;
  return (static_cast<float>(z >> 40) - 0x1p23f) * 0x1p-23f;
}

std::vector<float> gradient(int step, std::size_t n) {
  std::vector<float> grad(n);
  for (std::size_t i = 0; i < n; ++i) grad[i] = uniform(300 + step, i) * 0x1p-6f;
  for (std::size_t i = 512; i < 768; ++i) grad[i] = 0;
  if (step == 3) grad[100] = std::nanf(""), grad[3000] = INFINITY, grad[n - 1] = -INFINITY;
  return grad;
}

void expect_adamw(const Goldens& goldens, const std::string& name, DType dtype, double decay) {
  const auto start = test::copy_of<float>(std::span<const std::byte>(goldens.at("param_0")));
  const std::size_t n = start.size();
  std::vector<std::byte> param = test::to_bytes(start, dtype);
  std::vector<std::uint8_t> m_codes(n), v_codes(n);
  std::vector<float> m_absmax((n + 255) / 256), v_absmax((n + 255) / 256);
  for (int t = 1; t <= 20; ++t) {
    auto grad = test::to_bytes(gradient(t, n), dtype);
    test::update({.param = param.data(),
                  .grad = grad.data(),
                  .m = m_codes.data(),
                  .v = v_codes.data(),
                  .m_absmax = m_absmax.data(),
                  .v_absmax = v_absmax.data(),
                  .n = static_cast<std::int64_t>(n),
                  .param_dtype = dtype,
                  .grad_dtype = dtype},
                 {.lr = 1e-3, .weight_decay = decay, .step = t});
    const std::string key = fmt::format("{}.{}.", name, t);
    if (!goldens.contains(key + "param")) continue;
    const auto expect = [&](const char* part, std::span<const std::byte> bytes) {
      EXPECT_EQ(test::first_difference(bytes, goldens.at(key + part)), -1) << key << part;
    };
    expect("param", param);
    expect("state1", std::as_bytes(std::span(m_codes)));
    expect("state2", std::as_bytes(std::span(v_codes)));
    expect("absmax1", std::as_bytes(std::span(m_absmax)));
    expect("absmax2", std::as_bytes(std::span(v_absmax)));
  }
}

TEST(Golden, TwentyStepsOf8bitAdamWToTheBit) {
  const Goldens goldens = test::read_goldens("adamw8bit/adamw8bit.safetensors");
  const auto first = test::copy_of<float>(std::span<const std::byte>(goldens.at("grad_1")));
  ASSERT_EQ(first, gradient(1, first.size())) << "the gradient's generator differs";
  expect_adamw(goldens, "f32", DType::Float32, 0);
  expect_adamw(goldens, "f32_decay", DType::Float32, 0.01);
  expect_adamw(goldens, "bf16_decay", DType::BFloat16, 0.01);
}

}  // namespace
}  // namespace qlora::kernels
