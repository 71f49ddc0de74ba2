#include "qlora/io/weight_source.h"
#include "io/gguf_models.h"
#include "qlora/base/dtype.h"
#include "qlora/base/file.h"
#include "qlora/base/json.h"
#include "qlora/io/hf_checkpoint.h"

#include <algorithm>
#include <cmath>

namespace qlora::io {
namespace {

namespace fs = std::filesystem;
using test::as_bytes;
using test::expect_error;
using test::raw_list;

struct NamedBytes {
  TensorSpec spec;
  std::string bytes;
};

// A model directory with these tensors; config.json is only ever searched for quantization here.
fs::path model_directory(const std::vector<NamedBytes>& tensors) {
  const fs::path folder = qlora::test::fresh_folder("weights");
  write_text(folder / "config.json", "{}");
  std::vector<TensorSpec> specs;
  for (const auto& tensor : tensors) specs.push_back(tensor.spec);
  HfCheckpointWriter writer(folder, specs);
  for (const auto& tensor : tensors) writer.write(tensor.spec.name, as_bytes(tensor.bytes));
  writer.finish();
  return folder;
}

std::vector<float> counting(std::size_t count) {
  std::vector<float> values(count);
  for (std::size_t i = 0; i < count; ++i) values[i] = static_cast<float>(i) * 0.37F - 3.0F;
  return values;
}

TEST(HfWeightsTest, ConvertsToWhatIsAskedFor) {
  const std::vector<float> values = counting(3 * 5000);  // more than one piece per thread
  std::vector<std::uint16_t> halves;
  for (const float value : values) halves.push_back(float_to_fp16(value));
  const auto source =
      open_weights(model_directory({{{"f32", DType::Float32, {3, 5000}}, raw_list(values)},
                                    {{"f16", DType::Float16, {3, 5000}}, raw_list(halves)}}));
  EXPECT_EQ(source->names(), (std::vector<std::string>{"f32", "f16"}));
  EXPECT_EQ(source->info("f16").dtype, DType::Float16);
  EXPECT_EQ(source->info("f32").stored_bytes, 60000);

  std::vector<float> floats(values.size());
  source->read("f32", DType::Float32, floats.data());
  EXPECT_EQ(floats, values);
  std::vector<std::uint16_t> brains(values.size());
  source->read("f32", DType::BFloat16, brains.data());
  source->read("f16", DType::Float32, floats.data());
  for (std::size_t i = 0; i < values.size(); ++i) {
    ASSERT_EQ(brains[i], float_to_bf16(values[i]));
    ASSERT_EQ(floats[i], fp16_to_float(halves[i]));
  }
  std::vector<std::uint16_t> as_stored(values.size());
  source->read("f16", DType::Float16, as_stored.data());
  EXPECT_EQ(as_stored, halves);
}

TEST(HfWeightsTest, ReadsSomeRowsAndNoByteMore) {
  const std::vector<float> values = counting(4 * 7);
  const auto source =
      open_weights(model_directory({{{"w", DType::Float32, {4, 7}}, raw_list(values)}}));
  std::vector<float> rows(2 * 7 + 1, -99.0F);
  source->read("w", DType::Float32, rows.data(), {1, 3});
  EXPECT_TRUE(std::equal(rows.begin(), rows.end() - 1, values.begin() + 7));
  EXPECT_EQ(rows.back(), -99.0F);
  source->read("w", DType::Float32, nullptr, {2, 2});
  for (const RowRange bad : {RowRange{-1, 2}, RowRange{3, 2}, RowRange{0, 5}, RowRange{0, -2}}) {
    expect_error([&] { source->read("w", DType::Float32, rows.data(), bad); }, "has 4 rows");
  }
}

TEST(HfWeightsTest, ErrorsSayWhatAndWhere) {
  const auto source = open_weights(
      model_directory({{{"model.norm.weight", DType::Int32, {2}}, std::string(8, '\0')}}));
  EXPECT_TRUE(source->has("model.norm.weight"));
  EXPECT_FALSE(source->has("model.norm.bias"));
  expect_error([&] { source->info("model.norn.weight"); }, "nearest name is 'model.norm.weight'");
  float out[2];
  expect_error([&] { source->read("model.norm.weight", DType::Float32, out); },
               "is int32; it cannot be read as float32");
  expect_shape(*source, "model.norm.weight", {2});
  expect_error([&] { expect_shape(*source, "model.norm.weight", {3}); },
               "has the shape [2]; the configuration expects [3]");
  expect_error([] { open_weights("no/such/place"); }, "no such model directory");
}

// A weight of 70 values, 2 blocks, with double quantization.
std::vector<NamedBytes> packed_weight() {
  const std::string state =
      encode_bnb_state({"nf4", 64, DType::BFloat16, {7, 10}, Bnb4bitNested{256, 0.5F}});
  return {{{"a.weight", DType::UInt8, {35, 1}}, std::string(35, '\x12')},
          {{"a.weight.absmax", DType::UInt8, {2}}, "\x03\x04"},
          {{"a.weight.quant_map", DType::Float32, {16}}, raw_list(counting(16))},
          {{"a.weight.nested_absmax", DType::Float32, {1}}, raw_list(counting(1))},
          {{"a.weight.nested_quant_map", DType::Float32, {256}}, raw_list(counting(256))},
          {{"a.weight.quant_state.bitsandbytes__nf4",
            DType::UInt8,
            {static_cast<std::int64_t>(state.size())}},
           state}};
}

TEST(PackedWeightsTest, AreGivenAsStored) {
  const auto source = open_weights(model_directory(packed_weight()));
  EXPECT_EQ(source->names(), std::vector<std::string>{"a.weight"});
  EXPECT_FALSE(source->has("a.weight.absmax"));
  EXPECT_EQ(source->info("a.weight").shape, (std::vector<std::int64_t>{7, 10}));
  EXPECT_EQ(source->info("a.weight").dtype, DType::BFloat16);
  EXPECT_EQ(source->info("a.weight").stored_as, "nf4");
  const auto packed = source->prequantized("a.weight");
  ASSERT_TRUE(packed.has_value());
  EXPECT_EQ(test::as_string(packed->packed), std::string(35, '\x12'));
  EXPECT_EQ(test::as_string(packed->absmax), "\x03\x04");
  EXPECT_EQ(test::as_string(packed->nested_quant_map), raw_list(counting(256)));
  EXPECT_EQ(packed->state.nested->offset, 0.5F);
  float out[70];
  expect_error([&] { source->read("a.weight", DType::Float32, out); }, "is packed nf4");
}

TEST(PackedWeightsTest, RefusesPartsThatDoNotFit) {
  const auto refuses = [](std::size_t part, auto edit, std::string_view text) {
    auto tensors = packed_weight();
    edit(tensors[part]);
    const auto folder = model_directory(tensors);
    expect_error([&] { open_weights(folder); }, text);
  };
  const auto shorten = [](NamedBytes& tensor) {
    tensor.bytes.resize(tensor.bytes.size() - size_of(tensor.spec.dtype));
    tensor.spec.shape = {tensor.spec.shape[0] - 1};
  };
  refuses(0, shorten, "states the shape [7, 10], but 'a.weight' holds 34 bytes");
  refuses(1, shorten, "'a.weight.absmax' is uint8 [1]; the quant state beside it needs 2 of uint8");
  refuses(2, shorten, "'a.weight.quant_map' is float32 [15]");
  refuses(4, shorten, "'a.weight.nested_quant_map' is float32 [255]");
  refuses(
      3, [](NamedBytes& tensor) { tensor.spec.name = "b"; },
      "'a.weight.nested_absmax' is missing beside its 4-bit weight");
  refuses(
      0, [](NamedBytes& tensor) { tensor.spec.name = "b"; }, "the weight 'a.weight' is missing");
  refuses(5, shorten, "not valid JSON");
}

TEST(PackedWeightsTest, ReadsTheRealSerialisation) {
  const auto path = qlora::test::data_path("quantized/safetensors/bnb_nf4.safetensors");
  QLORA_REQUIRE_DATA(path);
  const auto folder = qlora::test::fresh_folder("real_bnb");
  fs::copy_file(path, folder / "model.safetensors");
  write_text(folder / "config.json", "{}");
  const auto source = open_weights(folder);
  const auto packed = source->prequantized("model.layers.0.weight");
  ASSERT_TRUE(packed.has_value());
  EXPECT_EQ(packed->packed.size(), 32U);
  EXPECT_FALSE(source->prequantized("model.norm.weight").has_value());
}

TEST(GgufWeightsTest, UsesHfNamesAndUndoesTheRowOrderOfLlama) {
  const auto path = test::gguf_model("llama").write(qlora::test::fresh_folder("gguf") / "m.gguf");
  const auto source = open_weights(path);
  EXPECT_EQ(source->names().size(), 2U + 2 * 9);
  EXPECT_TRUE(source->has("model.layers.1.mlp.down_proj.weight"));
  EXPECT_FALSE(source->has("lm_head.weight"));
  EXPECT_EQ(source->info("model.layers.0.self_attn.k_proj.weight").shape,
            (std::vector<std::int64_t>{16, 32}));
  std::vector<float> q(32 * 32);
  source->read("model.layers.0.self_attn.q_proj.weight", DType::Float32, q.data());
  // A head of 16 rows: HF rows 0..7 are GGUF rows 0, 2, .. 14; HF rows 8..15 are 1, 3, .. 15.
  for (int row = 0; row < 32; ++row) {
    const int in_head = row % 16;
    const int expected = row / 16 * 16 + (in_head < 8 ? 2 * in_head : 2 * (in_head - 8) + 1);
    ASSERT_EQ(q[static_cast<std::size_t>(row) * 32], static_cast<float>(expected * 32));
  }
  std::vector<float> rows(2 * 32);
  source->read("model.layers.0.self_attn.q_proj.weight", DType::Float32, rows.data(), {17, 19});
  EXPECT_TRUE(std::equal(rows.begin(), rows.end(), q.begin() + 17 * 32));
  std::vector<float> v(16 * 32);
  source->read("model.layers.0.self_attn.v_proj.weight", DType::Float32, v.data());
  EXPECT_EQ(v[32], 32.0F) << "v is not permuted";
}

TEST(GgufWeightsTest, OtherArchitecturesKeepTheirRows) {
  const auto path = test::gguf_model("exaone").write(qlora::test::fresh_folder("gguf") / "m.gguf");
  const auto source = open_weights(path);
  std::vector<float> q(32 * 32);
  source->read("transformer.h.0.attn.attention.q_proj.weight", DType::Float32, q.data());
  EXPECT_EQ(q[32], 32.0F);
}

TEST(GgufWeightsTest, RefusesWhatItCannotPlaceOrDecode) {
  const auto refuses = [](const test::GgufBuilder& builder, std::string_view part) {
    const auto path = builder.write(qlora::test::fresh_folder("gguf") / "m.gguf");
    expect_error([&] { open_weights(path); }, part);
  };
  refuses(test::gguf_model("llama").tensor("blk.2.attn_norm.weight", {1}, 0, "1234"),
          "'blk.2.attn_norm.weight' has no place in a llama model of 2 layers");
  refuses(
      test::gguf_model("llama").tensor("output.weight", {256, 8}, 14, std::string(8 * 210, 'x')),
      "'output.weight' is Q6_K, which is not supported; known are F32");
}

TEST(GgufWeightsTest, ReadsSmolLM2) {
  const auto path = qlora::test::source_path("models/SmolLM2-135M-Instruct.Q4_1.gguf");
  QLORA_REQUIRE_DATA(path);
  const auto source = open_weights(path);
  EXPECT_EQ(source->names().size(), 272U);
  EXPECT_EQ(source->info("model.layers.29.mlp.gate_proj.weight").stored_as, "Q4_1");
  std::vector<float> row(576);
  source->read("model.embed_tokens.weight", DType::Float32, row.data(), {49151, 49152});
  EXPECT_TRUE(std::ranges::any_of(row, [](float x) { return x != 0.0F; }));
  EXPECT_TRUE(std::ranges::all_of(row, [](float x) { return std::abs(x) < 10.0F; }));
}

}  // namespace
}  // namespace qlora::io
