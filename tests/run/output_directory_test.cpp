#include "qlora/run/output_directory.h"

#include "qlora/base/file.h"
#include "run/support.h"
#include "support/message.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace qlora::run {
namespace {

namespace fs = std::filesystem;
using qlora::test::message_of;
using ::testing::HasSubstr;

std::string refusal(const fs::path& output, bool overwrite, std::vector<fs::path> inputs = {}) {
  return message_of([&] { check_output(output, overwrite, inputs); });
}

TEST(OutputDirectory, MayBeNewOrEmpty) {
  const fs::path folder = test::fresh_folder("output_new");
  EXPECT_EQ(check_output(folder / "out/", false, {}), folder / "out");
  fs::create_directory(folder / "out");
  EXPECT_EQ(check_output(folder / "out/", false, {}), folder / "out");
}

TEST(OutputDirectory, NeverReplacesFilesThatAreNoModel) {
  const fs::path folder = test::fresh_folder("output_files");
  write_text(folder / "thesis.txt", "text");
  for (const bool overwrite : {false, true}) {
    EXPECT_THAT(refusal(folder, overwrite), HasSubstr("no model"));
    EXPECT_THAT(refusal(folder / "thesis.txt", overwrite), HasSubstr("is a file"));
  }
}

TEST(OutputDirectory, ReplacesAModelOnlyWhenTold) {
  const fs::path folder = test::fresh_folder("output_model");
  write_text(folder / "config.json", "{}");
  EXPECT_THAT(refusal(folder, false), HasSubstr("--overwrite"));
  EXPECT_EQ(refusal(folder, true), "");
}

TEST(OutputDirectory, NeverReplacesItsInputs) {
  const fs::path folder = test::fresh_folder("output_inputs");
  write_text(folder / "config.json", "{}");
  fs::create_directory(folder / "adapter");
  EXPECT_THAT(refusal(folder, true, {folder}), HasSubstr("holds the input"));
  EXPECT_THAT(refusal(folder / ".", true, {folder / "adapter/"}), HasSubstr("holds the input"));
  EXPECT_EQ(refusal(folder / "merged", true, {folder, folder / "adapter"}), "");
}

}  // namespace
}  // namespace qlora::run
