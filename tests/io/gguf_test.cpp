#include "qlora/io/gguf.h"
#include "io/file_builders.h"
#include "qlora/base/dtype.h"
#include "qlora/base/file.h"

namespace qlora::io {
namespace {

using test::expect_error;
using test::GgufBuilder;
using test::raw;

std::filesystem::path new_file() { return qlora::test::fresh_folder("gguf") / "model.gguf"; }

// One key of every type and two tensors, 3 x 32 Q8_0 and 2 x 2 F32.
std::string rich_image() {
  GgufBuilder builder;
  builder.key("u8", 0, raw<std::uint8_t>(200)).key("i8", 1, raw<std::int8_t>(-3));
  builder.key("u16", 2, raw<std::uint16_t>(60000)).key("i16", 3, raw<std::int16_t>(-300));
  builder.u32("u32", 4000000000U).key("i32", 5, raw<std::int32_t>(-70000));
  builder.f32("f32", 0.5F).key("bool", 7, raw<std::uint8_t>(1)).string("text", "Hallo");
  builder.key("u64", 10, raw<std::uint64_t>(1ULL << 40));
  builder.key("i64", 11, raw<std::int64_t>(-5)).key("f64", 12, raw(0.25));
  builder.key("texts", 9,
              raw<std::uint32_t>(8) + raw<std::uint64_t>(2) + GgufBuilder::text("ab") +
                  GgufBuilder::text(""));
  builder.key("numbers", 9, raw<std::uint32_t>(6) + raw<std::uint64_t>(2) + raw(1.5F) + raw(-2.0F));
  builder.key("ints", 9, raw<std::uint32_t>(1) + raw<std::uint64_t>(2) + "\x01\xff");
  builder.tensor("blk.0.a", {32, 3}, 8, std::string(3 * 34, '\1'));
  builder.tensor("b", {2, 2}, 0, std::string(16, '\0'));
  return builder.build();
}

TEST(GgufTest, ReadsEveryTypeOfKey) {
  const auto path = new_file();
  test::put_file(path, rich_image());
  const GgufFile file(path);
  EXPECT_EQ(file.keys().size(), 15U);
  EXPECT_EQ(file.integer("u8"), 200);
  EXPECT_EQ(file.integer("i8"), -3);
  EXPECT_EQ(file.integer("u16"), 60000);
  EXPECT_EQ(file.integer("i16"), -300);
  EXPECT_EQ(file.integer("u32"), 4000000000);
  EXPECT_EQ(file.integer("i32"), -70000);
  EXPECT_EQ(file.integer("u64"), std::int64_t{1} << 40);
  EXPECT_EQ(file.integer("i64"), -5);
  EXPECT_EQ(file.number("f32"), 0.5);
  EXPECT_EQ(file.number("f64"), 0.25);
  EXPECT_EQ(file.number("i8"), -3.0);
  EXPECT_TRUE(file.boolean("bool"));
  EXPECT_EQ(file.string("text"), "Hallo");
  EXPECT_EQ(file.strings("texts"), (std::vector<std::string>{"ab", ""}));
  EXPECT_EQ(file.numbers("numbers"), (std::vector<double>{1.5, -2.0}));
  EXPECT_EQ(file.integers("ints"), (std::vector<std::int64_t>{1, -1}));
  EXPECT_EQ(file.find_integer("absent"), std::nullopt);
  EXPECT_EQ(file.describe("texts"), "[2 texts]");
  EXPECT_EQ(file.describe("text"), "\"Hallo\"");
}

TEST(GgufTest, SaysWhichKeyIsWrong) {
  const auto path = new_file();
  test::put_file(path, rich_image());
  const GgufFile file(path);
  expect_error([&] { file.integer("absent"); }, path.string() + ": the key 'absent' is missing");
  expect_error([&] { file.integer("f32"); }, "'f32' is 0.5; expected a whole number");
  expect_error([&] { file.string("u8"); }, "'u8' is 200; expected a text");
  expect_error([&] { file.strings("text"); }, "'text' is a single value; expected a list");
  expect_error([&] { file.integer("ints"); }, "'ints' is a list; expected a single value");
  expect_error([&] { file.boolean("u8"); }, "expected true or false");
}

TEST(GgufTest, TensorsHaveTheirShapeAndBytes) {
  const auto path = new_file();
  test::put_file(path, rich_image());
  const GgufFile file(path);
  const GgufTensor* tensor = file.find("blk.0.a");
  ASSERT_NE(tensor, nullptr);
  EXPECT_EQ(tensor->shape, (std::vector<std::int64_t>{3, 32}));
  EXPECT_EQ(tensor->type->name, "Q8_0");
  EXPECT_EQ(tensor->bytes.size(), 3U * 34);
  EXPECT_EQ(static_cast<int>(tensor->bytes.back()), 1);
  EXPECT_EQ(file.find("c"), nullptr);
}

TEST(GgufTest, RefusesAFileCutAnywhere) {
  const auto path = new_file();
  const std::string image = rich_image();
  // The last tensor's 16 bytes are followed by padding that nobody needs.
  for (std::size_t length = 0; length <= image.size() - 17; ++length) {
    test::put_file(path, image.substr(0, length));
    expect_error([&] { GgufFile{path}; }, path.string());
  }
}

TEST(GgufTest, SurvivesEveryDamagedByte) {
  const auto path = new_file();
  const std::string image = rich_image();
  for (std::size_t i = 0; i < image.size(); ++i) {
    for (const char damage : {'\0', '\x7f', '\xff', '\x09'}) {
      std::string damaged = image;
      damaged[i] = damage;
      test::put_file(path, damaged);
      test::expect_only_errors([&] {
        const GgufFile file(path);
        for (const std::string& key : file.keys()) file.describe(key);
      });
    }
  }
}

void refuses(const std::string& image, std::string_view part) {
  const auto path = new_file();
  test::put_file(path, image);
  expect_error([&] { GgufFile{path}; }, part);
}

TEST(GgufTest, RefusesLyingHeaders) {
  const auto header = [](std::uint32_t version, std::uint64_t tensors, std::uint64_t keys) {
    return "GGUF" + raw(version) + raw(tensors) + raw(keys);
  };
  constexpr std::uint64_t kHuge = ~std::uint64_t{0};
  refuses("GGML" + std::string(40, '\0'), "not a GGUF file");
  refuses(header(1, 0, 0), "version 1 is not supported");
  refuses(header(3, 0, kHuge), "keys do not fit");
  refuses(header(3, kHuge, 0), "tensors do not fit");
  refuses(header(3, 0, 1) + raw(kHuge) + std::string(40, 'x'), "a key's name is");
  refuses(GgufBuilder().key("k", 13, "x").build(), "'k' has the unknown type 13");
  refuses(GgufBuilder().u32("k", 1).u32("k", 1).build(), "'k' is there twice");
  refuses(GgufBuilder().key("k", 9, raw<std::uint32_t>(9) + raw<std::uint64_t>(1)).build(),
          "'k' is a list of lists");
  refuses(GgufBuilder().key("k", 9, raw<std::uint32_t>(10) + raw(kHuge)).build(),
          "values do not fit");
  refuses(GgufBuilder().key("k", 9, raw<std::uint32_t>(8) + raw(kHuge / 8)).build(),
          "texts do not fit");
  refuses(GgufBuilder().key("k", 8, raw(kHuge)).build(), "k needs 18446744073709551615 bytes");
}

TEST(GgufTest, RefusesLyingTensors) {
  const std::string data(64, '\0');
  const auto one = [&](const std::vector<std::uint64_t>& dimensions, std::uint32_t type) {
    return GgufBuilder().tensor("t", dimensions, type, data).build();
  };
  refuses(one({1, 1, 1, 1, 1}, 0), "'t' has 5 dimensions");
  refuses(one({~std::uint64_t{0}}, 0), "'t' has a dimension of");
  refuses(one({1ULL << 62, 8}, 0), "overflows");
  refuses(one({17}, 0), "its 68 bytes at offset 0 do not fit the 64 bytes");
  refuses(one({16}, 2), "rows of 16 are not whole Q4_0 blocks of 32");
  refuses(one({16}, 77), "unknown type number 77");
  refuses(GgufBuilder().tensor("t", {4}, 0, data).tensor("t", {4}, 0, data).build(), "twice");
  refuses(GgufBuilder().u32("general.alignment", 24).build(), "expected a power of two");
  refuses(GgufBuilder().u32("general.alignment", 0).build(), "expected a power of two");
}

// u32 type, u32 elements, u32 raw bytes, u32 expected bytes; blocks; expected values in bfloat16.
TEST(GgufBlocksTest, EqualTheReferenceToTheBit) {
  for (const std::string name : {"q4_0", "q4_1", "q8_0"}) {
    const auto path = qlora::test::data_path("quantized/gguf/smollm2_" + name + ".bin");
    QLORA_REQUIRE_DATA(path);
    const MappedFile file(path);
    std::uint32_t head[4];
    std::memcpy(head, file.bytes().data(), sizeof head);
    const GgmlType* type = find_ggml_type(head[0]);
    ASSERT_NE(type, nullptr);
    std::vector<float> values(head[1]);
    dequantize_gguf(*type, file.bytes().data() + sizeof head, head[1], values.data());
    const std::byte* expected = file.bytes().data() + sizeof head + head[2];
    for (std::size_t i = 0; i < values.size(); ++i) {
      std::uint16_t bits;
      std::memcpy(&bits, expected + 2 * i, sizeof bits);
      ASSERT_EQ(float_to_bf16(values[i]), bits) << name << " element " << i;
    }
  }
}

TEST(GgufBlocksTest, PlainTypes) {
  float out[2];
  const std::string half = raw<std::uint16_t>(0x3c00) + raw<std::uint16_t>(0xc000);
  dequantize_gguf(*find_ggml_type("F16"), test::as_bytes(half).data(), 2, out);
  EXPECT_EQ(out[0], 1.0F);
  EXPECT_EQ(out[1], -2.0F);
  const std::string brain = raw<std::uint16_t>(0x3f80) + raw<std::uint16_t>(0xc000);
  dequantize_gguf(*find_ggml_type("BF16"), test::as_bytes(brain).data(), 2, out);
  EXPECT_EQ(out[0], 1.0F);
  EXPECT_EQ(out[1], -2.0F);
}

TEST(GgufBlocksTest, NamesAnUnsupportedType) {
  float out[256];
  const std::string block(210, '\0');
  expect_error(
      [&] { dequantize_gguf(*find_ggml_type("Q6_K"), test::as_bytes(block).data(), 256, out); },
      "type Q6_K is not supported; known are F32");
}

}  // namespace
}  // namespace qlora::io
