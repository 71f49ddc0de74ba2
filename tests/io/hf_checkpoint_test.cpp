#include "qlora/io/hf_checkpoint.h"
#include "io/file_builders.h"
#include "qlora/base/file.h"
#include "qlora/base/json.h"

namespace qlora::io {
namespace {

namespace fs = std::filesystem;
using test::as_bytes;
using test::expect_error;

constexpr const char* kSecondShard = "model-00002-of-00002.safetensors";

class HfCheckpointTest : public testing::Test {
 protected:
  void SetUp() override {
    source_ = qlora::test::golden_path("tiny/mistral");
    QLORA_REQUIRE_DATA(source_);
    fs::copy(source_, folder_, fs::copy_options::recursive | fs::copy_options::overwrite_existing);
  }
  void refuses(std::string_view part) {
    expect_error([&] { HfCheckpoint{folder_}; }, part);
  }
  void edit_index(const std::function<void(Json&)>& edit) {
    Json index = read_json(folder_ / "model.safetensors.index.json");
    edit(index);
    write_text(folder_ / "model.safetensors.index.json", index.dump());
  }

  fs::path source_;
  fs::path folder_ = qlora::test::fresh_folder("hf_checkpoint");
};

TEST_F(HfCheckpointTest, FindsTensorsInTheirShards) {
  const HfCheckpoint checkpoint(folder_);
  EXPECT_EQ(checkpoint.files().size(), 2U);
  const auto head = checkpoint.find("lm_head.weight");
  ASSERT_NE(head.tensor, nullptr);
  EXPECT_EQ(head.file->path().filename(), kSecondShard);
  EXPECT_EQ(head.tensor->shape, (std::vector<std::int64_t>{96, 32}));
  EXPECT_EQ(checkpoint.find("lm_head.bias").tensor, nullptr);
}

TEST_F(HfCheckpointTest, NamesWhatIsMissing) {
  expect_error([] { HfCheckpoint{"no/such/model"}; }, "hf download");
  edit_index([](Json& index) { index["weight_map"]["extra.weight"] = kSecondShard; });
  refuses("tensor 'extra.weight' is missing");
  edit_index([](Json& index) {
    index["weight_map"].erase("extra.weight");
    index["weight_map"]["lm_head.weight"] = "model-00001-of-00002.safetensors";
  });
  refuses("tensor 'lm_head.weight' is missing");
  fs::remove(folder_ / kSecondShard);
  edit_index([](Json& index) { index["weight_map"]["lm_head.weight"] = kSecondShard; });
  refuses("the shard model-00002-of-00002.safetensors is missing");
  fs::remove(folder_ / "model.safetensors.index.json");
  refuses("no weights: expected model.safetensors");
  fs::remove(folder_ / "config.json");
  refuses("config.json is missing");
}

TEST_F(HfCheckpointTest, RefusesAnIndexThatLeavesItsDirectory) {
  for (const char* name : {"../model.safetensors", "/etc/passwd", "..", ".", "", "a/b"}) {
    edit_index([&](Json& index) { index["weight_map"]["lm_head.weight"] = name; });
    refuses("must name a file beside the index");
  }
  write_text(folder_ / "model.safetensors.index.json", "{}");
  refuses("'weight_map' is missing");
}

TEST_F(HfCheckpointTest, RefusesATensorThatIsInTwoShards) {
  fs::copy_file(folder_ / kSecondShard, folder_ / "again.safetensors");
  edit_index([](Json& index) { index["weight_map"]["other"] = "again.safetensors"; });
  refuses("is already in");
}

// Writes four tensors of 8 bytes; the third is as large as a shard of 8 and later ones follow.
fs::path write_checkpoint(const fs::path& folder, std::int64_t max_shard_bytes) {
  std::vector<TensorSpec> specs;
  for (const char* name : {"a", "b", "c", "d"}) specs.push_back({name, DType::Float32, {2}});
  write_text(folder / "config.json", "{}");
  HfCheckpointWriter writer(folder, specs, max_shard_bytes);
  for (const TensorSpec& spec : specs) writer.write(spec.name, as_bytes(std::string(8, 'x')));
  writer.finish();
  return folder;
}

TEST(HfCheckpointWriterTest, OneFileWhereItFits) {
  const auto folder = write_checkpoint(qlora::test::fresh_folder("one_file"), 32);
  EXPECT_TRUE(fs::exists(folder / "model.safetensors"));
  EXPECT_FALSE(fs::exists(folder / "model.safetensors.index.json"));
  EXPECT_EQ(HfCheckpoint(folder).files().front()->tensors().size(), 4U);
}

TEST(HfCheckpointWriterTest, SplitsIntoShards) {
  const auto folder = write_checkpoint(qlora::test::fresh_folder("shards"), 20);
  const HfCheckpoint checkpoint(folder);
  ASSERT_EQ(checkpoint.files().size(), 2U);
  EXPECT_EQ(checkpoint.find("c").file->path().filename(), kSecondShard);
  const Json index = read_json(folder / "model.safetensors.index.json");
  EXPECT_EQ(index.at("metadata").at("total_size"), 32);
  EXPECT_EQ(index.at("weight_map").at("b"), "model-00001-of-00002.safetensors");
  // A tensor larger than a shard gets one of its own.
  const auto small = write_checkpoint(qlora::test::fresh_folder("small_shards"), 4);
  EXPECT_EQ(HfCheckpoint(small).files().size(), 4U);
}

TEST(HfCheckpointWriterTest, NamesATensorThatWasNotWritten) {
  const auto folder = qlora::test::fresh_folder("unfinished");
  HfCheckpointWriter writer(folder, {{"a", DType::UInt8, {1}}, {"b", DType::UInt8, {1}}});
  writer.write("a", as_bytes("x"));
  expect_error([&] { writer.finish(); }, "tensor 'b'");
}

}  // namespace
}  // namespace qlora::io
