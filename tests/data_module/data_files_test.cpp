#include "data/data_files.h"

#include "qlora/base/file.h"
#include "support/message.h"
#include "support/test_data.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace qlora::data {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;

fs::path folder_with(const std::vector<std::string>& names) {
  const fs::path folder = qlora::test::fresh_folder("data_files");
  for (const std::string& name : names) {
    fs::create_directories((folder / name).parent_path());
    write_text(folder / name, "{}");
  }
  return folder;
}

// The files of one entry, without their folder.
std::vector<std::string> files_of(const fs::path& folder, const std::string& entry) {
  std::vector<std::string> names;
  const auto sources = find_sources({{.path = (folder / entry).string()}}, {}, "data.train");
  EXPECT_EQ(sources.size(), 1u);
  for (const fs::path& file : sources[0].files) {
    names.push_back(file.lexically_relative(folder).string());
  }
  return names;
}

TEST(DataFiles, AreThoseOfADirectory) {
  const fs::path folder =
      folder_with({"b/2.jsonl.gz", "b/.hidden.jsonl", "a.json", "README.md", "b/1.ndjson"});
  EXPECT_THAT(files_of(folder, ""), ElementsAre("a.json", "b/1.ndjson", "b/2.jsonl.gz"));
}

TEST(DataFiles, FollowLinks) {
  const fs::path folder = folder_with({"blobs/1f2e.json", "snapshot/x"});
  fs::create_symlink("../blobs/1f2e.json", folder / "snapshot/data.json");
  EXPECT_THAT(files_of(folder, "snapshot"), ElementsAre("snapshot/data.json"));
  fs::create_directory_symlink(".", folder / "snapshot/loop");
  EXPECT_THAT(qlora::test::message_of([&] { files_of(folder, "snapshot"); }),
              HasSubstr("nested too deeply"));
}

TEST(DataFiles, FitPatterns) {
  const fs::path folder =
      folder_with({"train-0.jsonl", "train-1.jsonl", "test-0.jsonl", "sub/c.csv", "odd[1].json"});
  EXPECT_THAT(files_of(folder, "train-*.jsonl"), ElementsAre("train-0.jsonl", "train-1.jsonl"));
  EXPECT_THAT(files_of(folder, "*/c.csv"), ElementsAre("sub/c.csv"));
  EXPECT_THAT(files_of(folder, "s*"), ElementsAre("sub/c.csv"));
  EXPECT_THAT(files_of(folder, "odd[1].json"), ElementsAre("odd[1].json"));
  EXPECT_THAT(qlora::test::message_of([&] { files_of(folder, "x*"); }),
              HasSubstr("data.train: no file fits the pattern '"));
}

TEST(DataFiles, OfAListAreSeveralSources) {
  const fs::path folder = folder_with({"a.json", "d/b.csv"});
  const std::vector<SourceConfig> entries{{.path = (folder / "d").string()},
                                          {.path = (folder / "a.json").string()}};
  const auto sources = find_sources(entries, {}, "data.train");
  ASSERT_EQ(sources.size(), 2u);
  EXPECT_EQ(sources[0].name, entries[0].path);
  EXPECT_EQ(sources[0].files, std::vector<fs::path>{folder / "d/b.csv"});
  EXPECT_EQ(sources[1].files, std::vector<fs::path>{folder / "a.json"});
}

TEST(DataFiles, ADirectoryHoldsOneThing) {
  const auto error_of = [](const fs::path& folder) {
    return qlora::test::message_of(
        [&] { find_sources({{.path = folder.string()}}, {}, "data.train"); });
  };
  EXPECT_THAT(error_of(folder_with({"README.md"})),
              HasSubstr("holds no data files; expected .json, .jsonl"));
  EXPECT_THAT(error_of(folder_with({"a.csv", "b.json"})),
              HasSubstr("holds files of several kinds (b.json, a.csv); name those"));
  EXPECT_THAT(error_of(folder_with({"train-00000-of-2.parquet", "Test.parquet"})),
              HasSubstr("holds files of several splits (Test.parquet, train-00000-of-2.parquet)"));
  EXPECT_EQ(error_of(folder_with({"train-0.json", "train-1.json", "latest.json"})), "");
  EXPECT_THAT(error_of(qlora::test::source_path("datasets/mossvane_en")),
              EndsWith("(train.jsonl, heldout.jsonl); name those that you mean, by a pattern or a "
                       "list"));
}

}  // namespace
}  // namespace qlora::data
