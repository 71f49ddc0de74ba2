#include "qlora/base/directory.h"

#include "qlora/base/error.h"
#include "qlora/base/file.h"
#include "support/test_data.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace qlora {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

// b, a/inner/c, a link to a file and a link to a directory outside.
fs::path make_tree(const fs::path& outside) {
  fs::path tree = test::fresh_folder("tree");
  fs::create_directories(tree / "a" / "inner");
  write_text(tree / "b", "b");
  write_text(tree / "a" / "inner" / "c", "c");
  write_text(outside / "kept", "kept");
  fs::create_symlink(outside / "kept", tree / "file_link");
  fs::create_symlink(outside, tree / "folder_link");
  return tree;
}

TEST(Directory, EntriesAreSorted) {
  const fs::path tree = make_tree(test::fresh_folder("outside"));
  EXPECT_THAT(directory_entries(tree),
              ElementsAre(tree / "a", tree / "b", tree / "file_link", tree / "folder_link"));
  EXPECT_THAT(directory_entries(test::fresh_folder("empty")), IsEmpty());
  EXPECT_THROW(directory_entries(tree / "missing"), Error);
  EXPECT_THROW(directory_entries(tree / "b"), Error);
}

TEST(Directory, FilesBelowLeaveLinksOut) {
  const fs::path tree = make_tree(test::fresh_folder("outside"));
  EXPECT_THAT(files_below(tree), ElementsAre(tree / "a" / "inner" / "c", tree / "b"));
}

TEST(Directory, RemovesTreesButNotWhatLinksPointTo) {
  const fs::path outside = test::fresh_folder("outside");
  const fs::path tree = make_tree(outside);
  EXPECT_TRUE(remove_tree(tree));
  EXPECT_FALSE(fs::exists(tree));
  EXPECT_TRUE(fs::exists(outside / "kept"));
  EXPECT_TRUE(remove_tree(tree)) << "nothing is there";
  EXPECT_TRUE(remove_tree(outside / "kept")) << "a file";
  EXPECT_FALSE(remove_tree("/proc/self"));
}

}  // namespace
}  // namespace qlora
