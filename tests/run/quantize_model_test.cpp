#include "qlora/run/quantize_model.h"

#include "qlora/base/json.h"
#include "qlora/io/bnb.h"
#include "qlora/io/safetensors.h"
#include "qlora/tensor/bridge.h"
#include "run/support.h"
#include "support/message.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

namespace qlora::run {
namespace {

namespace fs = std::filesystem;
using qlora::test::message_of;
using ::testing::HasSubstr;

bool same(const at::Tensor& a, const at::Tensor& b) {
  return a.defined() == b.defined() && (!a.defined() || at::equal(a, b));
}

bool same_bits(const tensor::QuantizedWeight& a, const tensor::QuantizedWeight& b) {
  return a.type == b.type && a.block == b.block && a.shape == b.shape &&
         a.original_dtype == b.original_dtype && a.offset == b.offset && same(a.packed, b.packed) &&
         same(a.absmax, b.absmax) && same(a.absmax_codes, b.absmax_codes) &&
         same(a.nested_absmax, b.nested_absmax) && same(a.nested_map, b.nested_map);
}

struct Case {
  const char* model;
  kernels::QuantType type;
  bool double_quant;
};

class QuantizeModel : public ::testing::TestWithParam<Case> {};

TEST_P(QuantizeModel, LoadsAsTheOriginalQuantizedOnTheWay) {
  const Case& c = GetParam();
  const fs::path folder = test::fresh_folder("quantize_model");
  const QuantizeReport report = quantize_model({.model = test::tiny(c.model),
                                                .output = folder / "out",
                                                .type = c.type,
                                                .double_quant = c.double_quant});
  EXPECT_EQ(report.quantized, 14);
  EXPECT_GT(report.relative_error, 0.05);
  EXPECT_LT(report.relative_error, 0.15);

  const auto expected = test::load(test::tiny(c.model), test::four_bits(c.type, c.double_quant));
  const auto loaded = test::load(folder / "out");
  std::vector<tensor::QuantizedWeightPtr> weights;
  const auto collect = [&](const std::string&, nn::Linear& linear) {
    if (linear.quantized()) weights.push_back(linear.quantized());
  };
  expected->visit({.linear = collect, .embedding = {}, .norm = {}});
  const std::size_t count = weights.size();
  loaded->visit({.linear = collect, .embedding = {}, .norm = {}});
  ASSERT_EQ(weights.size(), 2 * count);
  for (std::size_t i = 0; i < count; ++i) EXPECT_TRUE(same_bits(*weights[i], *weights[count + i]));
  EXPECT_TRUE(at::equal(test::logits_of(*loaded), test::logits_of(*expected)));
}

TEST_P(QuantizeModel, SaysInTheConfigWhatItDid) {
  const Case& c = GetParam();
  const fs::path folder = test::fresh_folder("quantize_config");
  quantize_model({.model = test::tiny(c.model),
                  .output = folder / "out",
                  .type = c.type,
                  .double_quant = c.double_quant});
  const auto stated =
      io::read_quantization_config(read_json(folder / "out/config.json"), "config.json");
  ASSERT_TRUE(stated);
  EXPECT_EQ(stated->quant_type, enum_name(c.type));
  EXPECT_EQ(stated->use_double_quant, c.double_quant);
  EXPECT_EQ(stated->skip_modules, std::vector<std::string>{"lm_head"});
}

INSTANTIATE_TEST_SUITE_P(Tiny, QuantizeModel,
                         ::testing::Values(Case{"llama2", kernels::QuantType::NF4, false},
                                           Case{"llama3", kernels::QuantType::NF4, true},
                                           Case{"exaone", kernels::QuantType::FP4, true},
                                           Case{"qwen2", kernels::QuantType::FP4, false}),
                         [](const auto& c) { return std::string(c.param.model); });

TEST(QuantizeModelFile, HoldsWhatBitsandbytesWrites) {
  const fs::path folder = test::fresh_folder("quantize_file");
  quantize_model({.model = test::tiny("llama2"),
                  .output = folder / "out",
                  .type = kernels::QuantType::FP4,
                  .double_quant = true});
  const io::SafetensorsFile file(folder / "out/model.safetensors");
  const std::string name = "model.layers.0.self_attn.q_proj.weight";
  const auto shape = [&](const std::string& suffix) { return file.find(name + suffix)->shape; };
  const std::int64_t n = 32 * 32;
  EXPECT_EQ(shape(""), (std::vector<std::int64_t>{n / 2, 1}));
  EXPECT_EQ(shape(".absmax"), std::vector<std::int64_t>{n / 64});
  EXPECT_EQ(shape(".nested_absmax"), std::vector<std::int64_t>{1});
  EXPECT_EQ(shape(".nested_quant_map"), std::vector<std::int64_t>{256});
  const at::Tensor map = tensor::to_tensor(*file.find(name + ".quant_map"));
  ASSERT_EQ(map.numel(), 16);
  EXPECT_FALSE(std::signbit(map[8].item<float>()));  // bitsandbytes' table has +0 there
  const io::TensorView* state = file.find(name + ".quant_state.bitsandbytes__fp4");
  ASSERT_NE(state, nullptr);
  const std::string_view json(reinterpret_cast<const char*>(state->bytes.data()),
                              state->bytes.size());
  EXPECT_THAT(std::string(json),
              HasSubstr(R"("quant_type": "fp4", "blocksize": 64, "dtype": "float32")"));
}

TEST(QuantizeModelFile, RefusesWhatItCannotQuantize) {
  const fs::path folder = test::fresh_folder("quantize_refusals");
  quantize_model({.model = test::tiny("llama2"), .output = folder / "once"});
  const auto error = [&](const fs::path& model, const char* output) {
    return message_of([&] { quantize_model({.model = model, .output = folder / output}); });
  };
  EXPECT_THAT(error(folder / "once", "twice"), HasSubstr("is quantized already"));
  EXPECT_THAT(error(folder / "nothing", "twice"), HasSubstr("no such model directory"));
  EXPECT_THAT(error(test::tiny("llama2"), "once"), HasSubstr("--overwrite"));
  EXPECT_EQ(test::names_in(folder), std::vector<std::string>{"once"});
}

}  // namespace
}  // namespace qlora::run
