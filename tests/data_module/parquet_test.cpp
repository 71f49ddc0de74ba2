// The table of tools/dev/goldens/data_files.py as rows.

#include "data/row_reader.h"
#include "qlora/base/file.h"
#include "support/message.h"
#include "support/test_data.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace qlora::data {
namespace {

using ::testing::HasSubstr;

TEST(Parquet, HasTheColumnsOfJson) {
  const auto reader =
      open_rows(qlora::test::golden_path("data_files/rows.parquet"), SampleBy::Line);
  std::vector<Json> rows;
  Row row;
  while (reader->next(row)) {
    rows.push_back(reader->parse(row));
    EXPECT_EQ(row.line, std::ssize(rows));
  }
  ASSERT_EQ(rows.size(), 7u);
  EXPECT_EQ(json_keys(rows[0]),
            "text, large, flag, small, wide, score, ids, messages, pair, kind, time");
  EXPECT_EQ(rows[6], parse_json(R"({"text": "줄 6", "large": "large 6", "flag": true, "small": -6,
      "wide": 9223372036854775814, "score": 1.5, "ids": [0, 1, 2, 3, 4, 5],
      "messages": [{"role": "user", "content": "질문 6"}, {"role": "assistant", "content": "답"}],
      "pair": [6, 7], "kind": null, "time": "2026-01-02 03:04:05.000"})",
                                "x"))
      << rows[6].dump();
  EXPECT_EQ(rows[4].at("kind"), "b");
  EXPECT_EQ(rows[4].at("ids"), nullptr);
  EXPECT_EQ(rows[1].at("wide"), nullptr);
  EXPECT_EQ(rows[0].at("ids"), Json::array());
}

TEST(Parquet, SaysWhenItIsDamaged) {
  const auto folder = qlora::test::fresh_folder("parquet");
  const std::string bytes = read_text(qlora::test::golden_path("data_files/rows.parquet"));
  const auto problem = [&](const std::string& text) {
    write_text(folder / "a.parquet", text);
    return qlora::test::message_of([&] {
      const auto reader = open_rows(folder / "a.parquet", SampleBy::Line);
      Row row;
      while (reader->next(row)) reader->parse(row);
    });
  };
  EXPECT_THAT(problem(""), HasSubstr("a.parquet: not a readable Parquet file: "));
  EXPECT_THAT(problem(bytes.substr(0, 4000)),
              HasSubstr("a.parquet: not a readable Parquet file: "));
  std::string changed = bytes;
  changed.replace(100, 400, 400, '\xFF');
  EXPECT_NE(problem(changed), "");
  EXPECT_EQ(problem(bytes), "");
  EXPECT_THAT(qlora::test::message_of([&] { open_rows(folder / "no.parquet", SampleBy::Line); }),
              HasSubstr("no.parquet: cannot be opened: No such file"));
}

}  // namespace
}  // namespace qlora::data
