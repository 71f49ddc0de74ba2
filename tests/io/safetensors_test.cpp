#include "qlora/io/safetensors.h"
#include "io/file_builders.h"
#include "qlora/base/file.h"
#include "qlora/base/json.h"

#include <limits>

namespace qlora::io {
namespace {

using test::as_bytes;
using test::as_string;
using test::expect_error;
using test::safetensors_image;

class SafetensorsTest : public testing::Test {
 protected:
  std::filesystem::path file(const std::string& bytes) {
    const auto path = folder_ / "model.safetensors";
    test::put_file(path, bytes);
    return path;
  }
  void refuses(const std::string& bytes, std::string_view part) {
    const auto path = file(bytes);
    expect_error([&] { SafetensorsFile{path}; }, part);
  }

  std::filesystem::path folder_ = qlora::test::fresh_folder("safetensors");
};

// Two tensors: "a" = float32 [2], "b" = uint8 [3].
constexpr const char* kHeader =
    R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
    R"("b":{"dtype":"U8","shape":[3],"data_offsets":[8,11]}})";

std::string good_image() { return safetensors_image(kHeader, std::string(11, 'x')); }

TEST_F(SafetensorsTest, ReadsARealModel) {
  const auto path = qlora::test::data_path("models/stories260K/model.safetensors");
  QLORA_REQUIRE_DATA(path);
  const SafetensorsFile model(path);
  EXPECT_EQ(model.tensors().size(), 47U);
  EXPECT_EQ(model.metadata().at("format"), "pt");
  const TensorView* tensor = model.find("model.layers.4.mlp.down_proj.weight");
  ASSERT_NE(tensor, nullptr);
  EXPECT_EQ(tensor->dtype, DType::Float32);
  EXPECT_EQ(tensor->shape, (std::vector<std::int64_t>{64, 172}));
  EXPECT_EQ(model.find("model.layers.5.mlp.down_proj.weight"), nullptr);
}

TEST_F(SafetensorsTest, ReadsEverySerialisation) {
  for (const std::string name : {"bnb_nf4", "gptq", "awq"}) {
    const auto path = qlora::test::data_path("quantized/safetensors/" + name + ".safetensors");
    QLORA_REQUIRE_DATA(path);
    const Json expected =
        read_json(qlora::test::data_path("quantized/safetensors/" + name + ".expected.json"));
    const SafetensorsFile model(path);
    EXPECT_EQ(model.tensors().size(), expected.at("tensors").size());
    EXPECT_EQ(model.metadata().size(), expected.at("metadata").size());
    for (const Json& tensor : expected.at("tensors")) {
      const TensorView* found = model.find(tensor.at("name").get<std::string>());
      ASSERT_NE(found, nullptr) << tensor;
      EXPECT_EQ(Json(found->shape), tensor.at("shape"));
      EXPECT_EQ(found->bytes.data() - model.tensors().front().bytes.data(),
                tensor.at("data_offsets").at(0).get<std::int64_t>());
    }
  }
}

TEST_F(SafetensorsTest, WritesWhatItReadsAndAlignsEveryTensor) {
  const std::vector<TensorSpec> specs = {
      {"odd", DType::UInt8, {121}},      {"half", DType::Float16, {3}},
      {"single", DType::Float32, {}},    {"wide", DType::Int64, {2, 2}},
      {"empty", DType::Float32, {0, 4}}, {"name \"quoted\"\n", DType::BFloat16, {4}}};
  const auto path = folder_ / "out.safetensors";
  SafetensorsWriter writer(path, specs, {{"format", "pt"}, {"key", "value"}});
  for (const TensorSpec& spec : specs) {
    writer.write(spec.name,
                 as_bytes(std::string(static_cast<std::size_t>(byte_count(spec)), spec.name[0])));
  }
  EXPECT_FALSE(std::filesystem::exists(path));
  writer.commit();

  const SafetensorsFile read(path);
  EXPECT_EQ(read.metadata().at("key"), "value");
  EXPECT_EQ(read.tensors().size(), specs.size());
  const std::byte* start = read.tensors().front().bytes.data();
  for (const TensorSpec& spec : specs) {
    const TensorView* tensor = read.find(spec.name);
    ASSERT_NE(tensor, nullptr) << spec.name;
    EXPECT_EQ(tensor->shape, spec.shape);
    EXPECT_EQ(tensor->dtype, spec.dtype);
    EXPECT_EQ(as_string(tensor->bytes), std::string(tensor->bytes.size(), spec.name[0]));
    EXPECT_EQ(static_cast<std::size_t>(tensor->bytes.data() - start) % size_of(spec.dtype), 0U);
  }
  EXPECT_EQ((read_text(path).size() - 8) % 8, (121U + 6 + 4 + 32 + 8) % 8) << "header padded to 8";
}

TEST_F(SafetensorsTest, AnUnfinishedFileIsNotLeftBehind) {
  const auto path = folder_ / "out.safetensors";
  {
    SafetensorsWriter writer(path, {{"a", DType::UInt8, {1}}, {"b", DType::UInt8, {1}}});
    writer.write("a", as_bytes("x"));
    expect_error([&] { writer.commit(); }, "tensor 'b' was announced but not written");
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder_));
  expect_error(
      [&] {
        SafetensorsWriter(path, {{"a", DType::UInt8, {1}}, {"a", DType::UInt8, {1}}});
      },
      "'a' is to be written twice");
}

TEST_F(SafetensorsTest, RefusesAFileCutAnywhere) {
  const std::string image = good_image();
  SafetensorsFile{file(image)};
  for (std::size_t length = 0; length < image.size(); ++length) {
    const auto path = file(image.substr(0, length));
    expect_error([&] { SafetensorsFile{path}; }, path.string());
  }
}

TEST_F(SafetensorsTest, SurvivesEveryDamagedByte) {
  const std::string image = good_image();
  for (std::size_t i = 0; i < image.size() - 11; ++i) {
    for (const char damage : {'\0', '9', '"', '{', '\xff', '-'}) {
      std::string damaged = image;
      damaged[i] = damage;
      const auto path = file(damaged);
      test::expect_only_errors([&] { SafetensorsFile{path}; });
    }
  }
}

TEST_F(SafetensorsTest, RefusesLyingHeaders) {
  const auto with = [](const std::string& entry) {
    return safetensors_image("{\"a\":" + entry + "}", std::string(8, 'x'));
  };
  refuses(test::raw<std::uint64_t>(1ULL << 63) + "{}", "claims 9223372036854775808 bytes");
  refuses(safetensors_image("[]", ""), "not a JSON object");
  refuses(safetensors_image("{", ""), "not valid JSON");
  refuses(safetensors_image(std::string(100000, '['), ""), "nested deeper than 16");
  refuses(safetensors_image(R"({"__metadata__":{"a":1}})", ""), "metadata 'a' is not a text");
  refuses(with("7"), "not an object");
  refuses(with(R"({"shape":[2],"data_offsets":[0,8]})"), "'dtype' is missing");
  refuses(with(R"({"dtype":"F8_E4M3","shape":[8],"data_offsets":[0,8]})"), "dtype F8_E4M3");
  refuses(with(R"({"dtype":"F32","data_offsets":[0,8]})"), "'shape' must be a list");
  refuses(with(R"({"dtype":"F32","shape":[-2],"data_offsets":[0,8]})"), "not a size");
  refuses(with(R"({"dtype":"F32","shape":[2.0],"data_offsets":[0,8]})"), "not a size");
  refuses(with(R"({"dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,8]})"),
          "not a size");
  refuses(with(R"({"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,8]})"),
          "overflows");
  refuses(with(R"({"dtype":"F32","shape":[3],"data_offsets":[0,8]})"), "needs 12 bytes, got 8");
  refuses(with(R"({"dtype":"F32","shape":[2],"data_offsets":[8,0]})"), "[begin, end]");
  refuses(with(R"({"dtype":"F32","shape":[2],"data_offsets":[0]})"), "[begin, end]");
  refuses(with(R"({"dtype":"F32","shape":[4],"data_offsets":[0,16]})"), "end at 16");
  refuses(with(R"({"dtype":"F32","shape":[1],"data_offsets":[0,4]})"), "4 bytes follow");
  refuses(with(R"({"dtype":"F32","shape":[1],"data_offsets":[4,8]})"), "leave a gap");
}

TEST_F(SafetensorsTest, RefusesOverlapAndRepetition) {
  const std::string a = R"("a":{"dtype":"U8","shape":[6],"data_offsets":[0,6]})";
  const std::string b = R"("b":{"dtype":"U8","shape":[4],"data_offsets":[4,8]})";
  refuses(safetensors_image("{" + a + "," + b + "}", std::string(8, 'x')), "overlap");
  refuses(safetensors_image("{" + a + "," + a + "}", std::string(6, 'x')), "'a' is there twice");
}

}  // namespace
}  // namespace qlora::io
