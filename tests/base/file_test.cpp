#include "qlora/base/file.h"

#include "qlora/base/directory.h"
#include "qlora/base/error.h"
#include "support/message.h"
#include "support/test_data.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <functional>
#include <string>
#include <vector>

namespace qlora {
namespace {

namespace fs = std::filesystem;
using test::message_of;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const fs::path& entry : directory_entries(folder)) names.push_back(entry.filename());
  return names;
}

// Makes every write beyond `bytes` fail, as on a full disk.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &old_);
    const rlimit limit{bytes, old_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &old_);
    std::signal(SIGXFSZ, handler_);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  rlimit old_{};
  void (*handler_)(int);
};

TEST(MappedFileTest, ShowsTheBytesAndSurvivesAMove) {
  const fs::path path = test::fresh_folder("mapped") / "a.bin";
  const std::string text(10000, 'x');
  write_text(path, text);
  MappedFile file(path);
  EXPECT_EQ(file.path(), path);
  file.drop(file.bytes());
  const MappedFile moved(std::move(file));
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(moved.bytes().data()), moved.bytes().size()),
            text);
}

TEST(MappedFileTest, AnEmptyFileHasNoBytes) {
  const fs::path path = test::fresh_folder("empty") / "empty";
  write_text(path, "");
  EXPECT_TRUE(MappedFile(path).bytes().empty());
  EXPECT_EQ(read_text(path), "");
}

TEST(MappedFileTest, NamesAMissingFileAndAFolder) {
  const fs::path folder = test::fresh_folder("missing");
  EXPECT_THAT(message_of([&] { MappedFile file(folder / "none.bin"); }), HasSubstr("none.bin: "));
  EXPECT_THAT(message_of([&] { MappedFile file(folder); }), HasSubstr("not a regular file"));
}

TEST(AtomicFileTest, AppearsAsAWholeOnCommit) {
  const fs::path folder = test::fresh_folder("commit");
  AtomicFile file(folder / "a.txt");
  file.write("one ");
  file.write(std::as_bytes(std::span(std::string_view("two"))));
  EXPECT_FALSE(fs::exists(folder / "a.txt"));
  file.commit();
  EXPECT_EQ(read_text(folder / "a.txt"), "one two");
  EXPECT_THAT(names_in(folder), ElementsAre("a.txt"));
}

TEST(AtomicFileTest, WithoutCommitTheOldFileStaysAndNothingElse) {
  const fs::path folder = test::fresh_folder("abandoned");
  write_text(folder / "a.txt", "old");
  {
    AtomicFile file(folder / "a.txt");
    file.write("new");
  }
  EXPECT_EQ(read_text(folder / "a.txt"), "old");
  EXPECT_THAT(names_in(folder), ElementsAre("a.txt"));
}

TEST(AtomicFileTest, AFullDiskLosesNothing) {
  const fs::path folder = test::fresh_folder("full");
  write_text(folder / "a.txt", "old");
  std::string message;
  {
    const FileSizeLimit limit(4096);
    message = message_of([&] { write_text(folder / "a.txt", std::string(100000, 'x')); });
  }
  EXPECT_THAT(message, HasSubstr("a.txt: cannot be written: "));
  EXPECT_EQ(read_text(folder / "a.txt"), "old");
  EXPECT_THAT(names_in(folder), ElementsAre("a.txt"));
}

TEST(AtomicFileTest, NamesAFolderThatIsNotThere) {
  const fs::path folder = test::fresh_folder("no_folder");
  EXPECT_THAT(message_of([&] { write_text(folder / "sub" / "a.txt", "x"); }),
              HasSubstr("a.txt: cannot be created: "));
  EXPECT_THAT(names_in(folder), IsEmpty());
}

TEST(AtomicDirectoryTest, AppearsAsAWholeOnCommit) {
  const fs::path folder = test::fresh_folder("directory");
  AtomicDirectory directory(folder / "checkpoint-1");
  write_text(directory.path() / "a.txt", "a");
  fs::create_directory(directory.path() / "sub");
  write_text(directory.path() / "sub" / "b.txt", "b");
  EXPECT_FALSE(fs::exists(folder / "checkpoint-1"));
  directory.commit();
  EXPECT_THAT(names_in(folder), ElementsAre("checkpoint-1"));
  EXPECT_EQ(read_text(folder / "checkpoint-1" / "sub" / "b.txt"), "b");
}

TEST(AtomicDirectoryTest, ReplacesAnOldDirectoryAsAWhole) {
  const fs::path folder = test::fresh_folder("replaced");
  fs::create_directory(folder / "out");
  write_text(folder / "out" / "stale.txt", "stale");
  AtomicDirectory directory(folder / "out");
  write_text(directory.path() / "new.txt", "new");
  directory.commit();
  EXPECT_THAT(names_in(folder), ElementsAre("out"));
  EXPECT_THAT(names_in(folder / "out"), ElementsAre("new.txt"));
}

TEST(AtomicDirectoryTest, AnErrorOnTheWayLeavesNothingNewAndLosesNothingOld) {
  const fs::path folder = test::fresh_folder("failed");
  fs::create_directory(folder / "out");
  write_text(folder / "out" / "old.txt", "old");
  try {
    AtomicDirectory directory(folder / "out");
    write_text(directory.path() / "half.txt", "half");
    throw Error("interrupted");
  } catch (const Error&) {
  }
  EXPECT_THAT(names_in(folder), ElementsAre("out"));
  EXPECT_THAT(names_in(folder / "out"), ElementsAre("old.txt"));
}

TEST(AtomicDirectoryTest, NamesAParentThatIsAFile) {
  const fs::path folder = test::fresh_folder("blocked");
  write_text(folder / "file", "");
  EXPECT_THAT(message_of([&] { AtomicDirectory directory(folder / "file" / "out"); }),
              HasSubstr("out: cannot be created: "));
}

}  // namespace
}  // namespace qlora
