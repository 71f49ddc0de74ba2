#include "qlora/base/json.h"

#include "qlora/base/file.h"
#include "support/message.h"
#include "support/test_data.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace qlora {
namespace {

using test::message_of;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(JsonTest, KeepsTheOrderOfKeys) {
  EXPECT_EQ(parse_json(R"({"b": 1, "a": 2})", "x").dump(), R"({"b":1,"a":2})");
}

TEST(JsonTest, NamesTheSourceOfBrokenTextInOneLine) {
  for (const char* text : {"", "{", "{\"a\": }", "[1,]", "\"\xff\"", "{}\n{}", "nul"}) {
    EXPECT_THAT(message_of([&] { parse_json(text, "rows.jsonl:3"); }),
                AllOf(HasSubstr("rows.jsonl:3: not valid JSON"), Not(HasSubstr("\n"))))
        << text;
  }
}

TEST(JsonTest, RefusesDeepNesting) {
  const auto nested = [](std::size_t depth) {
    return std::string(depth, '[') + std::string(depth, ']');
  };
  EXPECT_TRUE(parse_json(nested(200), "x").is_array());
  EXPECT_THAT(message_of([&] { parse_json(nested(100000), "deep.json"); }),
              HasSubstr("deep.json: not acceptable JSON: nested deeper"));
}

TEST(JsonTest, ReadsAFileAndNamesAMissingOne) {
  const auto folder = test::fresh_folder("json");
  write_text(folder / "a.json", R"({"r": 8})");
  EXPECT_EQ(json_get<std::int64_t>(read_json(folder / "a.json"), "r", "a.json"), 8);
  EXPECT_THAT(message_of([&] { read_json(folder / "b.json"); }), HasSubstr("b.json: "));
}

TEST(JsonTest, GetsEachKind) {
  const Json json = parse_json(
      R"({"flag": true, "count": -3, "rate": 0.5, "name": "q", "sizes": [1, 2], "names": ["a"]})",
      "x");
  EXPECT_TRUE(json_get<bool>(json, "flag", "x"));
  EXPECT_EQ(json_get<std::int64_t>(json, "count", "x"), -3);
  EXPECT_EQ(json_get<double>(json, "rate", "x"), 0.5);
  EXPECT_EQ(json_get<double>(json, "count", "x"), -3.0);
  EXPECT_EQ(json_get<std::string>(json, "name", "x"), "q");
  EXPECT_EQ(json_get<std::vector<std::int64_t>>(json, "sizes", "x"),
            (std::vector<std::int64_t>{1, 2}));
  EXPECT_EQ(json_get<std::vector<std::string>>(json, "names", "x"), std::vector<std::string>{"a"});
}

TEST(JsonTest, SaysWhichKeyIsMissingOrOfAnotherType) {
  const Json json = parse_json(
      R"({"name": 5, "half": 0.5, "flag": 1, "sizes": [1, "b"], "huge": 18446744073709551615})",
      "x");
  EXPECT_EQ(message_of([&] { json_get<std::int64_t>(json, "r", "a.json"); }),
            "a.json: 'r' is missing; expected a whole number");
  EXPECT_EQ(message_of([&] { json_get<std::string>(json, "name", "a.json"); }),
            "a.json: 'name' is 5; expected a text");
  EXPECT_NE(message_of([&] { json_get<std::int64_t>(json, "half", "x"); }), "");
  EXPECT_NE(message_of([&] { json_get<std::int64_t>(json, "huge", "x"); }), "");
  EXPECT_NE(message_of([&] { json_get<bool>(json, "flag", "x"); }), "");
  EXPECT_NE(message_of([&] { json_get<std::vector<std::int64_t>>(json, "sizes", "x"); }), "");
  EXPECT_NE(message_of([&] { json_get<bool>(Json::array(), "flag", "x"); }), "");
}

TEST(JsonTest, ListsKeysForMessages) {
  EXPECT_EQ(json_keys(parse_json(R"({"b": 1, "a": {"c": 2}})", "x")), "b, a");
  EXPECT_EQ(json_keys(Json::object()), "none");
}

TEST(JsonTest, FallsBackOnlyWhereTheKeyIsAbsentOrNull) {
  const Json json = parse_json(R"({"a": null, "b": 2, "c": "text"})", "x");
  EXPECT_EQ(json_get_or<std::int64_t>(json, "a", 7, "x"), 7);
  EXPECT_EQ(json_get_or<std::int64_t>(json, "z", 7, "x"), 7);
  EXPECT_EQ(json_get_or<std::int64_t>(json, "b", 7, "x"), 2);
  EXPECT_THROW(json_get_or<std::int64_t>(json, "c", 7, "x"), Error);
}

}  // namespace
}  // namespace qlora
