#include "qlora/io/bnb.h"
#include "io/file_builders.h"
#include "io/python_json.h"
#include "qlora/io/safetensors.h"

#include <cstring>

namespace qlora::io {
namespace {

using test::as_string;
using test::expect_error;

constexpr const char* kNested =
    R"({"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [2560, 640], )"
    R"("nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": 0.028531953692436218})";

// Expected texts are Python 3's repr().
TEST(PythonFloatTest, WritesWhatReprWrites) {
  const std::pair<double, const char*> cases[] = {
      {0.0, "0.0"},
      {-0.0, "-0.0"},
      {1.0, "1.0"},
      {0.1, "0.1"},
      {0.0001, "0.0001"},
      {1e-05, "1e-05"},
      {1.5e-07, "1.5e-07"},
      {1e15, "1000000000000000.0"},
      {1e16, "1e+16"},
      {123456.789, "123456.789"},
      {5e-324, "5e-324"},
      {1.7976931348623157e308, "1.7976931348623157e+308"},
      {static_cast<double>(0.1F), "0.10000000149011612"}};
  for (const auto& [value, text] : cases) EXPECT_EQ(python_float(value), text);
}

TEST(BnbStateTest, ReadsARealState) {
  const auto path = qlora::test::data_path("quantized/safetensors/bnb_nf4.safetensors");
  QLORA_REQUIRE_DATA(path);
  const SafetensorsFile file(path);
  const TensorView* tensor = file.find("model.layers.0.weight" + bnb_state_suffix("nf4"));
  ASSERT_NE(tensor, nullptr);
  const Bnb4bitState state = decode_bnb_state(as_string(tensor->bytes), "state");
  EXPECT_EQ(state.quant_type, "nf4");
  EXPECT_EQ(state.blocksize, 64);
  EXPECT_EQ(state.dtype, DType::BFloat16);
  EXPECT_EQ(state.shape, (std::vector<std::int64_t>{8, 8}));
  EXPECT_FALSE(state.nested.has_value()) << "it states a nested block size of 0";
}

TEST(BnbStateTest, WritesPythonsBytes) {
  Bnb4bitState state;
  state.shape = {2560, 640};
  EXPECT_EQ(encode_bnb_state(state),
            R"({"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [2560, 640]})");
  state.nested = Bnb4bitNested{256, 0.028531953692436218F};
  EXPECT_EQ(encode_bnb_state(state), kNested);
  const Bnb4bitState read = decode_bnb_state(kNested, "state");
  EXPECT_EQ(read.nested->offset, 0.028531953692436218F);
  EXPECT_EQ(encode_bnb_state(read), kNested);
  EXPECT_EQ(read.blocks(), 2560 * 640 / 64);
}

TEST(BnbStateTest, RefusesHostileStates) {
  const auto with = [](const std::string& from, const std::string& to) {
    std::string text = kNested;
    const std::size_t at = text.find(from);
    QLORA_ASSERT(at != std::string::npos);
    return text.replace(at, from.size(), to);
  };
  const auto refuses = [](const std::string& text, std::string_view part) {
    expect_error([&] { decode_bnb_state(text, "file: state"); }, part);
    expect_error([&] { decode_bnb_state(text, "file: state"); }, "file: state");
  };
  refuses(with("nf4", "int4"), "'int4' is unknown; known are nf4, fp4");
  refuses(with("64,", "0,"), "'blocksize' is 0");
  refuses(with("64,", "65,"), "'blocksize' is 65");
  refuses(with("64,", "9223372036854775807,"), "power of two");
  refuses(with("bfloat16", "uint8"), "'dtype' is 'uint8'");
  refuses(with("[2560, 640]", "[-1, 640]"), "out of range");
  refuses(with("[2560, 640]", "[4611686018427387904, 4]"), "out of range");
  refuses(with("[2560, 640]", "\"x\""), "expected a list");
  refuses(with("256,", "1,"), "'nested_blocksize' is 1");
  refuses(with("float32", "float16"), "'nested_dtype'");
  refuses(with("0.028531953692436218", "NaN"), "not valid JSON");
  refuses(with("0.028531953692436218", "1e300"), "not a finite number");
  refuses(with("0.028531953692436218", "null"), "expected a number");
  refuses(std::string(5000, '['), "JSON");
  refuses("", "JSON");
  refuses("{}", "'quant_type' is missing");
  for (std::size_t length = 0; length < std::strlen(kNested); ++length) {
    refuses(std::string(kNested, length), "JSON");
  }
}

TEST(BnbConfigTest, ReadsAndWritesTheBlockOfConfigJson) {
  BnbQuantizationConfig quantization{"nf4", true, DType::BFloat16, {"lm_head"}};
  const Json json = {{"quantization_config", to_json(quantization)}};
  const auto read = read_quantization_config(json, "config.json");
  ASSERT_TRUE(read.has_value());
  EXPECT_EQ(read->quant_type, "nf4");
  EXPECT_TRUE(read->use_double_quant);
  EXPECT_EQ(read->compute_dtype, DType::BFloat16);
  EXPECT_EQ(read->skip_modules, std::vector<std::string>{"lm_head"});
  EXPECT_EQ(to_json(*read), to_json(quantization));
  EXPECT_FALSE(read_quantization_config(Json::object(), "config.json").has_value());
}

TEST(BnbConfigTest, RefusesOtherMethods) {
  const auto refuses = [](const char* block, std::string_view part) {
    const Json json = {{"quantization_config", parse_json(block, "test")}};
    expect_error([&] { read_quantization_config(json, "config.json"); }, part);
  };
  refuses(R"({"quant_method": "gptq"})", "the method 'gptq' is not supported");
  refuses(R"({"load_in_8bit": true})", "only 4-bit");
  refuses(R"({"load_in_4bit": true, "bnb_4bit_quant_type": "int4"})", "'int4' is unknown");
  refuses("[]", "only 4-bit");
}

}  // namespace
}  // namespace qlora::io
