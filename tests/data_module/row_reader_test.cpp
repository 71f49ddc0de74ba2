// Files to rows, and what is said of broken ones.

#include "data/row_reader.h"
#include "data/row_error.h"
#include "qlora/base/file.h"
#include "support/message.h"
#include "support/test_data.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

namespace qlora::data {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

struct ReadRow {
  Json columns;
  std::int64_t line;
};

std::vector<ReadRow> read_all(const std::filesystem::path& path, SampleBy by = SampleBy::Line) {
  const auto reader = open_rows(path, by);
  std::vector<ReadRow> rows;
  Row row;
  while (reader->next(row)) rows.push_back({reader->parse(row), row.line});
  EXPECT_FALSE(reader->next(row));
  return rows;
}

std::filesystem::path file_of(const std::string& name, const std::string& text) {
  const auto path = qlora::test::fresh_folder("rows") / name;
  write_text(path, text);
  return path;
}

std::vector<ReadRow> rows_of(const std::string& name, const std::string& text,
                             SampleBy by = SampleBy::Line) {
  return read_all(file_of(name, text), by);
}

// The error of reading the file and all its rows, without its folder.
std::string problem_of(const std::string& name, const std::string& text) {
  const auto path = file_of(name, text);
  const std::string what = qlora::test::message_of([&] { read_all(path); });
  const std::string folder = path.parent_path().string() + "/";
  EXPECT_TRUE(what.empty() || what.starts_with(folder)) << what;
  EXPECT_EQ(what.find('\n'), std::string::npos) << what;
  return what.empty() ? "no error" : what.substr(folder.size());
}

std::vector<std::int64_t> lines_of(const std::vector<ReadRow>& rows) {
  std::vector<std::int64_t> lines;
  for (const ReadRow& row : rows) lines.push_back(row.line);
  return lines;
}

std::vector<std::string> texts_of(const std::vector<ReadRow>& rows) {
  std::vector<std::string> texts;
  for (const ReadRow& row : rows) texts.push_back(row.columns.at("text").get<std::string>());
  return texts;
}

TEST(JsonRows, ReadsLines) {
  const auto rows =
      rows_of("a.jsonl", "\xEF\xBB\xBF\n{\"a\": 1}\r\n\n  {\"a\": \"}{\"}\n{\"a\": 3}");
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_EQ(rows[1].columns.at("a"), "}{");
  EXPECT_THAT(lines_of(rows), ElementsAre(2, 4, 5));
}

TEST(JsonRows, ReadsAList) {
  const auto rows = rows_of(
      "a.json", "\n[\n {\"a\": [1, {\"b\": \"],[\\\"\"}]},\n\n {\"a\": 2}, {\"a\": 3}\n]\n");
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_EQ(rows[0].columns.at("a").at(1).at("b"), "],[\"");
  EXPECT_THAT(lines_of(rows), ElementsAre(3, 5, 5));
}

TEST(JsonRows, SaysWhereAndWhat) {
  const auto error_of = [](const std::string& text) { return problem_of("rows.json", text); };
  EXPECT_THAT(error_of(""), StartsWith("rows.json: the file is empty; expected JSON"));
  EXPECT_THAT(error_of(" \n "), StartsWith("rows.json: the file is empty"));
  EXPECT_EQ(error_of("[]"), "rows.json: the file has no rows");
  EXPECT_EQ(error_of("a,b\n1,2\n"),
            "rows.json:1:1: expected JSON (a list of objects) or JSONL (one object a line)");
  EXPECT_EQ(error_of("{\"a\": 1}\n[1]\n"), "rows.json:2: a row is array; expected an object");
  EXPECT_EQ(error_of("[{\"a\": 1},\n 7]"), "rows.json:2: a row is number; expected an object");
  EXPECT_THAT(error_of("{\"a\": 1}\n{\"a\" 1}\n"), StartsWith("rows.json:2:6: not valid JSON: "));
  EXPECT_THAT(error_of("[{\"a\": 1},\n {\"a\": x}]"),
              StartsWith("rows.json:2:8: not valid JSON: "));
  EXPECT_THAT(error_of("[{\"a\": 1},\n {\"a\":\n  x}]"),
              StartsWith("rows.json:3:3: not valid JSON: "));
  EXPECT_THAT(error_of("{\"a\": 1}\n{\"a\": \"tru"),
              StartsWith("rows.json:2:11: not valid JSON: "));
  EXPECT_THAT(error_of("{\"a\": 1}\n{\"a\": 1e999}"),
              AllOf(StartsWith("rows.json:2: not valid JSON: "), HasSubstr("1e999")));
  EXPECT_EQ(error_of("[{\"a\": 1},\n {\"a\": 1"),
            "rows.json:2:2: the file ends inside this row of the list; is it truncated?");
  EXPECT_EQ(error_of("[{\"a\": 1},"),
            "rows.json:1:11: the list is not closed; is the file truncated?");
  EXPECT_THAT(error_of("[{\"a\": 1},]"), StartsWith("rows.json:1:11: not valid JSON"));
  EXPECT_EQ(error_of("[{\"a\": 1}] x"), "rows.json:1:12: text behind the end of the list");
  EXPECT_EQ(error_of("{\"a\": 1}\n{\"a\": \"\xFF\"}"),
            "rows.json:2:8: not valid UTF-8; save the file as UTF-8");
  EXPECT_EQ(error_of(std::string("{\"a\": 1}\n{\0", 11)),
            "rows.json:2:2: a NUL byte; is this a text file?");
}

TEST(JsonRows, RefusesDeepNesting) {
  const std::string deep = "{\"a\": " + std::string(100000, '[') + std::string(100000, ']') + "}";
  EXPECT_THAT(problem_of("a.json", deep), StartsWith("a.json:1: not acceptable JSON: nested"));
  EXPECT_THAT(problem_of("a.json", "[" + deep + "]"),
              StartsWith("a.json:1: not acceptable JSON: nested deeper"));
}

TEST(JsonRows, GoesOnBehindARowOf50Megabytes) {
  const std::string good = "{\"a\": 1}\n";
  const std::string huge = "{\"a\": \"" + std::string(50 << 20, 'x') + "\"}";
  for (const std::string& text :
       {good + huge + "\n" + good, "[" + good + "," + huge + "," + good + "]"}) {
    const auto reader = open_rows(file_of("a.json", text), SampleBy::Line);
    Row row;
    ASSERT_TRUE(reader->next(row));
    ASSERT_TRUE(reader->next(row));
    EXPECT_LE(row.text.size(), kMaxRowBytes + 1);
    EXPECT_THAT(qlora::test::message_of([&] { reader->parse(row); }), HasSubstr("a.json:2:"));
    EXPECT_THAT(qlora::test::message_of([&] { reader->parse(row); }),
                HasSubstr("longer than 16.00 MiB; is a line end or a quote missing?"));
    ASSERT_TRUE(reader->next(row));
    EXPECT_EQ(reader->parse(row).at("a"), 1);
    EXPECT_FALSE(reader->next(row));
  }
}

// Rows that lie across the borders of the reader's buffer of 1 MiB.
TEST(JsonRows, BuffersDoNotShow) {
  std::string lines;
  std::string list = "[";
  for (int i = 0; i < 3000; ++i) {
    const std::string row = fmt::format("{{\"i\": {}, \"a\": \"{}\"}}", i,
                                        std::string(static_cast<std::size_t>(i), 'z'));
    lines += row + "\n";
    list += (i == 0 ? "" : ",\n") + row;
  }
  for (const auto& rows : {rows_of("a.jsonl", lines), rows_of("a.json", list + "]")}) {
    ASSERT_EQ(rows.size(), 3000u);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      EXPECT_EQ(rows[i].columns.at("i"), i);
      EXPECT_EQ(rows[i].columns.at("a").get_ref<const std::string&>().size(), i);
      EXPECT_EQ(rows[i].line, i + 1);
    }
  }
}

TEST(CsvRows, ReadsQuotedFieldsOverLines) {
  const auto rows = rows_of("a.csv",
                            "\xEF\xBB\xBFQ,A,label\r\n\"a, \"\"b\"\"\n c\",d,0\r\n\r\n"
                            "5\" pipe,x\"\"y,\n\"\",\"\"\"\",\"z\"");
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_EQ(rows[0].columns, parse_json(R"({"Q": "a, \"b\"\n c", "A": "d", "label": "0"})", "x"));
  EXPECT_EQ(rows[1].columns, parse_json(R"({"Q": "5\" pipe", "A": "x\"\"y", "label": ""})", "x"));
  EXPECT_EQ(rows[2].columns, parse_json(R"({"Q": "", "A": "\"", "label": "z"})", "x"));
  EXPECT_THAT(lines_of(rows), ElementsAre(2, 5, 6));
}

TEST(CsvRows, TsvHasNoQuotes) {
  const auto rows = rows_of("a.tsv", "id\ttext\n1\t\"half\n2\t\"whole\" text, really\n");
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0].columns.at("text"), "\"half");
  EXPECT_EQ(rows[1].columns.at("text"), "\"whole\" text, really");
}

TEST(CsvRows, SaysWhereAndWhat) {
  const auto error_of = [](const std::string& text) { return problem_of("a.csv", text); };
  EXPECT_EQ(error_of(""), "a.csv: the file is empty; expected a header of columns");
  EXPECT_EQ(error_of("a,b\n1,2,3\n"), "a.csv:2: the row has 3 fields; the header has 2 (a, b)");
  EXPECT_EQ(error_of("a,b,a\n"), "a.csv:1: the header names column 'a' twice");
  EXPECT_EQ(error_of("a,b\n1,2\n1,\"2\n3,4\n"),
            "a.csv:3:1: the file ends inside a quoted field of this row; is a quote missing?");
  EXPECT_THAT(error_of("a,b\n\"1\"x,2\n"),
              StartsWith("a.csv:2:4: text behind the closing quote of a field; a quote within"));
  EXPECT_THAT(error_of("a,b\n1,\xC0\xAF\n"), StartsWith("a.csv:2:3: not valid UTF-8"));
}

TEST(TextRows, AreLinesParagraphsOrDocuments) {
  const std::string text = "one\r\n \ntwo\nthree\n\n\nfour";
  const auto lines = rows_of("a.txt", text);
  EXPECT_THAT(texts_of(lines), ElementsAre("one", "two", "three", "four"));
  EXPECT_THAT(lines_of(lines), ElementsAre(1, 3, 4, 7));
  const auto paragraphs = rows_of("a.txt", text, SampleBy::Paragraph);
  EXPECT_THAT(texts_of(paragraphs), ElementsAre("one", "two\nthree", "four"));
  EXPECT_THAT(lines_of(paragraphs), ElementsAre(1, 3, 7));
  EXPECT_THAT(texts_of(rows_of("a.txt", text, SampleBy::Document)),
              ElementsAre("one\n \ntwo\nthree\n\n\nfour"));
  EXPECT_EQ(problem_of("a.txt", ""), "a.txt: the file is empty; expected text");
}

TEST(OpenRows, TellsKindsByTheName) {
  EXPECT_EQ(file_kind("a.b/c.JSON"), std::nullopt);
  EXPECT_EQ(file_kind("c.jsonl.zst"), FileKind::Json);
  EXPECT_EQ(file_kind("c.csv.gz"), FileKind::Csv);
  EXPECT_EQ(file_kind("c.parquet"), FileKind::Parquet);
  EXPECT_EQ(file_kind("c.parquet.gz"), std::nullopt);
  EXPECT_EQ(file_kind("json"), std::nullopt);
  EXPECT_THAT(problem_of("a.docx", "x"),
              StartsWith("a.docx: the name tells no kind of file; expected .json, .jsonl"));
  EXPECT_THROW(open_rows("/nowhere/train.jsonl", SampleBy::Line), Error);
}

// --- compression, with files that gzip and zstd made (tests/data/data_files) ---------------------

TEST(CompressedRows, AreThoseOfTheText) {
  for (const char* name :
       {"rows.jsonl.gz", "rows.jsonl.zst", "members.jsonl.gz", "frames.jsonl.zst"}) {
    const auto rows = read_all(qlora::test::golden_path("data_files") / name);
    ASSERT_EQ(rows.size(), 500u) << name;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      EXPECT_EQ(rows[i].columns.at("i"), i);
      EXPECT_EQ(rows[i].columns.at("text"), fmt::format("{} 번째 줄", i * i));
      EXPECT_EQ(rows[i].line, i + 1);
    }
  }
}

TEST(CompressedRows, SayWhenTheyAreDamaged) {
  for (const std::string name : {"rows.jsonl.gz", "rows.jsonl.zst"}) {
    std::string bytes = read_text(qlora::test::golden_path("data_files") / name);
    EXPECT_EQ(problem_of(name, bytes.substr(0, bytes.size() / 2)),
              name + ": the compressed data ends in the middle; is the file truncated?");
    EXPECT_THAT(problem_of(name, bytes.substr(0, bytes.size() - 1)), StartsWith(name + ": the co"));
    EXPECT_THAT(problem_of(name, bytes + "garbage"), StartsWith(name + ": the compressed data"));
    bytes.replace(bytes.size() / 2, 8, 8, '\xFF');
    bytes.replace(4, 2, 2, '\xFF');  // this zstd file has no checksum; its header tells
    EXPECT_THAT(problem_of(name, bytes), StartsWith(name + ": the compressed data is damaged: "));
  }
}

TEST(OpenRows, NoticesThatTheFileChanges) {
  std::string text;
  for (int i = 0; i < 300000; ++i) text += "{\"a\": 1}\n";  // more than a buffer
  const auto path = file_of("a.jsonl", text);
  const auto reader = open_rows(path, SampleBy::Line);
  Row row;
  ASSERT_TRUE(reader->next(row));
  std::ofstream(path, std::ios::app) << "{\"a\": 2}\n";
  EXPECT_THAT(qlora::test::message_of([&] {
                while (reader->next(row)) {
                }
              }),
              HasSubstr("a.jsonl: the file has changed while it was read"));
}

}  // namespace
}  // namespace qlora::data
