#include "data/row_file.h"

#include "qlora/base/file.h"
#include "support/test_data.h"

#include <gtest/gtest.h>

namespace qlora::data {
namespace {

std::filesystem::path file_with(const std::string& text) {
  const auto path = qlora::test::fresh_folder("rows") / "rows.json";
  write_text(path, text);
  return path;
}

// The error of reading the file and all its rows, without its folder.
std::string error_of(const std::string& text) {
  const auto path = file_with(text);
  try {
    const RowFile file(path);
    for (std::int64_t i = 0; i < file.size(); ++i) file.parse(i);
  } catch (const Error& error) {
    const std::string what = error.what();
    const std::string folder = path.parent_path().string() + "/";
    EXPECT_TRUE(what.starts_with(folder)) << what;
    EXPECT_EQ(what.find('\n'), std::string::npos) << what;
    return what.substr(folder.size());
  }
  return "no error";
}

TEST(RowFile, ReadsLines) {
  const RowFile file(file_with("\xEF\xBB\xBF\n{\"a\": 1}\r\n\n  {\"a\": \"}{\"}\n{\"a\": 3}"));
  ASSERT_EQ(file.size(), 3);
  EXPECT_EQ(file.parse(1).at("a"), "}{");
  EXPECT_TRUE(file.where(0).ends_with("rows.json:2"));
  EXPECT_TRUE(file.where(1).ends_with("rows.json:4"));
  EXPECT_TRUE(file.where(2).ends_with("rows.json:5"));
}

TEST(RowFile, ReadsAList) {
  const RowFile file(
      file_with("\n[\n {\"a\": [1, {\"b\": \"],[\\\"\"}]},\n\n {\"a\": 2}, {\"a\": 3}\n]\n"));
  ASSERT_EQ(file.size(), 3);
  EXPECT_EQ(file.parse(0).at("a").at(1).at("b"), "],[\"");
  EXPECT_TRUE(file.where(0).ends_with("rows.json:3"));
  EXPECT_TRUE(file.where(1).ends_with("rows.json:5"));
  EXPECT_TRUE(file.where(2).ends_with("rows.json:5"));
}

TEST(RowFile, SaysWhereAndWhat) {
  EXPECT_TRUE(error_of("").starts_with("rows.json: the file is empty; expected JSON"));
  EXPECT_TRUE(error_of(" \n ").starts_with("rows.json: the file is empty"));
  EXPECT_EQ(error_of("[]"), "rows.json: the file has no rows");
  EXPECT_EQ(error_of("a,b\n1,2\n"),
            "rows.json:1:1: expected JSON (a list of objects) or JSONL (one object a line)");
  EXPECT_EQ(error_of("{\"a\": 1}\n[1]\n"), "rows.json:2: a row is array; expected an object");
  EXPECT_EQ(error_of("[{\"a\": 1},\n 7]"), "rows.json:2: a row is number; expected an object");
  EXPECT_TRUE(error_of("{\"a\": 1}\n{\"a\" 1}\n").starts_with("rows.json:2:6: not valid JSON: "));
  EXPECT_TRUE(
      error_of("[{\"a\": 1},\n {\"a\": x}]").starts_with("rows.json:2:8: not valid JSON: "));
  EXPECT_TRUE(
      error_of("{\"a\": 1}\n{\"a\": \"tru").starts_with("rows.json:2:11: not valid JSON: "));
  EXPECT_EQ(error_of("[{\"a\": 1},\n {\"a\": 1"),
            "rows.json:2:2: the file ends inside this row of the list; is it truncated?");
  EXPECT_EQ(error_of("[{\"a\": 1},"),
            "rows.json:1:11: the list is not closed; is the file truncated?");
  EXPECT_TRUE(error_of("[{\"a\": 1},]").starts_with("rows.json:1"));
  EXPECT_EQ(error_of("[{\"a\": 1}] x"), "rows.json:1:12: text behind the end of the list");
  EXPECT_EQ(error_of("{\"a\": 1}\n{\"a\": \"\xFF\"}"),
            "rows.json:2:8: not valid UTF-8; save the file as UTF-8");
  EXPECT_EQ(error_of(std::string("{\"a\": 1}\n\0", 10)),
            "rows.json:2:1: a NUL byte; is this a text file?");
}

TEST(RowFile, RefusesDeepNesting) {
  const std::string deep = "{\"a\": " + std::string(100000, '[') + std::string(100000, ']') + "}";
  EXPECT_TRUE(error_of(deep).starts_with("rows.json:1: not acceptable JSON: nested deeper"));
  EXPECT_TRUE(
      error_of("[" + deep + "]").starts_with("rows.json:1: not acceptable JSON: nested deeper"));
}

TEST(RowFile, NamesAMissingFile) { EXPECT_THROW(RowFile("/nowhere/train.jsonl"), Error); }

}  // namespace
}  // namespace qlora::data
