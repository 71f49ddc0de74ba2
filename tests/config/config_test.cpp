#include "qlora/config/config.h"

#include "qlora/base/file.h"
#include "support/message.h"
#include "support/test_data.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace qlora::config {
namespace {

using test::message_of;
using ::testing::HasSubstr;
using ::testing::Not;

enum class Shape { Round, Square };
constexpr std::array<EnumName<Shape>, 3> enum_names(Shape /*tag*/) {
  return {{{Shape::Round, "round"}, {Shape::Square, "square"}, {Shape::Square, "boxy"}}};
}

struct Inner {
  double depth = 0.5;
  template <class V>
  void visit(V&& v) {
    v.field("depth", depth, "how deep", Range{.low = 0, .high = 1, .low_excluded = true});
  }
};

struct Entry {
  std::string path;
  double weight = 1;
  std::optional<Shape> shape;
  template <class V>
  void visit(V&& v) {
    v.field("path", path, "a place", Required{}, Positional{});
    v.field("weight", weight, "how heavy", at_least(0));
    v.field("shape", shape, "its shape");
    v.check(weight != 13, "weight", "13 brings no luck");
  }
  bool operator==(const Entry&) const = default;
};

struct Outer {
  bool flag = false;
  std::int64_t count = 3;
  double rate = 1e-3;
  double every = 10;
  std::string name = "none";
  std::string kind = "a";
  std::vector<std::string> words = {"x"};
  std::vector<double> weights;
  StringOrList targets = "all";
  std::optional<std::int64_t> limit;
  std::optional<std::string> note;
  std::optional<DType> type;
  Shape shape = Shape::Round;
  Inner inner;
  std::vector<Entry> entries;
  std::int64_t last = 0;

  template <class V>
  void visit(V&& v) {
    v.field("flag", flag, "a switch");
    v.field("count", count, "a count", at_least(1));
    v.field("rate", rate, "a rate", at_least(0));
    v.field("every", every, "an interval", StepsOrShare{});
    v.field("name", name, "a name");
    v.field("kind", kind, "a kind", OneOf{{"a", "b"}, "c is not built"});
    v.field("words", words, "some words");
    v.field("weights", weights, "some weights", above(0));
    v.field("targets", targets, "some targets");
    v.field("limit", limit, "a limit", at_least(1));
    v.field("note", note, "a note");
    v.field("type", type, "a type", Unset{"auto"});
    v.field("shape", shape, "a shape");
    v.section("inner", inner, "deeper things");
    v.list("entries", entries, "some entries");
    v.field("last", last, "after the section");
    v.check(!(flag && count > 5), "count", "at most 5 where flag is set");
  }
};

struct Settings {
  std::string path;
  Outer outer;
  template <class V>
  void visit(V&& v) {
    v.field("path", path, "a file", Required{});
    v.section("outer", outer, "everything");
  }
};

Outer parse_outer(const std::string& yaml, std::vector<std::string> overrides = {}) {
  return parse_text<Outer>(yaml, "q.yaml", overrides);
}

std::string outer_error(const std::string& yaml, std::vector<std::string> overrides = {}) {
  return message_of([&] { parse_outer(yaml, overrides); });
}

TEST(ConfigTest, ReadsEveryKind) {
  const Outer outer = parse_outer(
      "flag: true\ncount: 1_000\nrate: 2e-4\nname: \"a: b\"\nkind: b\nwords: [q, 'r s']\n"
      "weights: [1, 0.5]\ntargets: [u, v]\nlimit: 7\nnote: 12\ntype: bfloat16\nshape: "
      "boxy\ninner:\n  depth: .25\n"
      "last: -4\nevery: 0.1\n",
      {"count=2"});
  EXPECT_TRUE(outer.flag);
  EXPECT_EQ(outer.count, 2);
  EXPECT_EQ(outer.rate, 2e-4);
  EXPECT_EQ(outer.name, "a: b");
  EXPECT_EQ(outer.kind, "b");
  EXPECT_EQ(outer.words, (std::vector<std::string>{"q", "r s"}));
  EXPECT_EQ(outer.weights, (std::vector<double>{1, 0.5}));
  EXPECT_EQ(outer.targets, StringOrList(std::vector<std::string>{"u", "v"}));
  EXPECT_EQ(outer.limit, 7);
  EXPECT_EQ(outer.note, "12");
  EXPECT_EQ(outer.type, DType::BFloat16);
  EXPECT_EQ(outer.shape, Shape::Square);
  EXPECT_EQ(outer.inner.depth, 0.25);
  EXPECT_EQ(outer.last, -4);
  EXPECT_EQ(outer.every, 0.1);
}

TEST(ConfigTest, ReadsNumbersAsPeopleWriteThem) {
  const std::vector<std::pair<std::string, double>> spellings{
      {"5e-5", 5e-5},  {"2E-4", 2e-4}, {"1.0e+3", 1000}, {"+1", 1},
      {"1_000", 1000}, {"1.", 1},      {"0", 0},         {"'3e-4'", 3e-4}};
  for (const auto& [text, value] : spellings) {
    EXPECT_EQ(parse_outer("rate: " + text + "\n").rate, value) << text;
  }
  for (const auto& text :
       {"1e", "nan", ".inf", "inf", "0x10", "1,5", "_1", "1_", "1__0", "--1", "1e999"}) {
    EXPECT_THAT(outer_error("rate: " + std::string(text) + "\n"),
                HasSubstr("rate (q.yaml:1): expected a number of at least 0, got '"))
        << text;
  }
}

TEST(ConfigTest, EveryNumberOfAListIsChecked) {
  EXPECT_EQ(outer_error("weights: [1, 0]\n"),
            "weights (q.yaml:1): expected a list such as [1, 0.5], each a number above 0, got a "
            "list");
  EXPECT_THAT(outer_error("weights: 2\n"), HasSubstr("each a number above 0, got '2'"));
}

TEST(ConfigTest, WhatIsNotStatedKeepsItsDefault) {
  EXPECT_EQ(parse_outer("").count, 3);
  const Outer outer = parse_outer("inner:\nlimit: null\ntype: auto\n");
  EXPECT_EQ(outer.inner.depth, 0.5);
  EXPECT_FALSE(outer.limit);
  EXPECT_FALSE(outer.type);
}

TEST(ConfigTest, UnknownKeysComeWithTheNearestName) {
  EXPECT_EQ(outer_error("flag: true\ncuont: 3\n"),
            "cuont (q.yaml:2): unknown key; did you mean count?");
  EXPECT_EQ(outer_error("inner:\n  deppth: 1\n"),
            "inner.deppth (q.yaml:2): unknown key; did you mean depth?");
  EXPECT_EQ(outer_error("inner:\n  shape: round\n"),
            "inner.shape (q.yaml:2): unknown key; did you mean shape?");
  EXPECT_EQ(outer_error("inner:\n  zzzzzz: 1\n"),
            "inner.zzzzzz (q.yaml:2): unknown key; known: depth");
  EXPECT_EQ(outer_error("iner:\n  depth: 1\n"),
            "iner (q.yaml:1): unknown key; did you mean inner?");
}

TEST(ConfigTest, WrongTypesSayWhatWasExpectedAndFound) {
  EXPECT_EQ(outer_error("count: many\n"),
            "count (q.yaml:1): expected a whole number of at least 1, got 'many'");
  EXPECT_EQ(outer_error("count: 1.5\n"),
            "count (q.yaml:1): expected a whole number of at least 1, got '1.5'");
  EXPECT_EQ(outer_error("count: 99999999999999999999\n"),
            "count (q.yaml:1): expected a whole number of at least 1, got '99999999999999999999'");
  EXPECT_EQ(outer_error("count:\n"),
            "count (q.yaml:1): expected a whole number of at least 1, got nothing (null)");
  EXPECT_EQ(outer_error("count: [1]\n"),
            "count (q.yaml:1): expected a whole number of at least 1, got a list");
  EXPECT_EQ(outer_error("flag: yes\n"),
            "flag (q.yaml:1): expected true or false, got 'yes'; write true");
  EXPECT_EQ(outer_error("flag: off\n"),
            "flag (q.yaml:1): expected true or false, got 'off'; write false");
  EXPECT_EQ(outer_error("words: x\n"), "words (q.yaml:1): expected a list such as [a, b], got 'x'");
  EXPECT_THAT(outer_error("words: [[x]]\n"), HasSubstr("got a list of other things than texts"));
  EXPECT_THAT(outer_error("name:\n  x: 1\n"),
              HasSubstr("name (q.yaml:1): expected a text, got a section"));
  EXPECT_THAT(outer_error("name:\n"), HasSubstr("expected a text, got nothing (null)"));
  EXPECT_EQ(outer_error("inner: 5\n"), "inner (q.yaml:1): expected key: value lines");
  EXPECT_EQ(outer_error("shape: rnd\n"),
            "shape (q.yaml:1): expected round, square or boxy, got 'rnd'; did you mean round?");
  EXPECT_THAT(outer_error("type: float8\n"),
              HasSubstr("expected float32, bfloat16 or float16 or auto, got 'float8'"));
  EXPECT_EQ(outer_error("kind: c\n"), "kind (q.yaml:1): expected a or b, got 'c'; c is not built");
  EXPECT_EQ(outer_error("- a\n- b\n"), "q.yaml:1: expected key: value lines");
  EXPECT_THAT(outer_error("name: " + std::string(5000, 'x') + "\ncount: " + std::string(5000, 'x')),
              HasSubstr("got a text of 5000 bytes"));
}

TEST(ConfigTest, BoundsHold) {
  EXPECT_THAT(outer_error("count: 0\n"),
              HasSubstr("expected a whole number of at least 1, got '0'"));
  EXPECT_THAT(outer_error("inner: {depth: 0}\n"),
              HasSubstr("expected a number above 0 to 1, got '0'"));
  EXPECT_EQ(parse_outer("inner: {depth: 1}\n").inner.depth, 1);
  EXPECT_THAT(outer_error("inner: {depth: 1.01}\n"), HasSubstr("got '1.01'"));
  EXPECT_THAT(outer_error("limit: 0\n"), HasSubstr("of at least 1 or null, got '0'"));
  for (const char* every : {"0", "-1", "1.5"}) {
    EXPECT_THAT(outer_error("every: " + std::string(every) + "\n"),
                HasSubstr("or a share between 0 and 1"));
  }
}

TEST(ConfigTest, AKeyIsGivenOnce) {
  EXPECT_EQ(outer_error("count: 1\nflag: true\ncount: 2\n"),
            "count (q.yaml:3): given twice; first at q.yaml:1");
  EXPECT_EQ(outer_error("", {"count=1", "count=2"}), "count (command line): given twice");
}

TEST(ConfigTest, RulesOverSeveralKeysBlameTheLineThatBreaksThem) {
  EXPECT_EQ(outer_error("flag: true\ncount: 6\n"), "count (q.yaml:2): at most 5 where flag is set");
  EXPECT_EQ(outer_error("flag: true\n", {"count=6"}),
            "count (command line): at most 5 where flag is set");
  EXPECT_EQ(outer_error("flag: true\ncount: 6\n", {"count=5"}), "");
}

TEST(ConfigTest, ARequiredKeyIsMissed) {
  EXPECT_EQ(message_of([] { parse_text<Settings>("outer:\n  flag: true\n", "q.yaml"); }),
            "path (q.yaml): missing; expected a text: a file");
  EXPECT_EQ(message_of([] { parse_text<Settings>("path: ''\n", "q.yaml"); }),
            "path (q.yaml:1): expected a text, got ''");
  const std::vector<std::string> overrides{"path=a"};
  EXPECT_EQ(parse_text<Settings>("", "q.yaml", overrides).path, "a");
}

TEST(ConfigTest, OverridesTakeTextAsItStands) {
  const Outer outer =
      parse_outer("limit: 3\nnote: x\n", {"targets=[qk]_proj|a: b #c", "limit=null", "name=*y=z",
                                          "words=[a, b]", "inner.depth=0.75", "note="});
  EXPECT_EQ(outer.targets, StringOrList("[qk]_proj|a: b #c"));
  EXPECT_FALSE(outer.limit);
  EXPECT_EQ(outer.name, "*y=z");
  EXPECT_EQ(outer.words, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(outer.inner.depth, 0.75);
  EXPECT_EQ(outer.note, "");
}

TEST(ConfigTest, OverridesAreReportedAsTheCommandLine) {
  EXPECT_EQ(outer_error("", {"cuont=3"}), "cuont (command line): unknown key; did you mean count?");
  EXPECT_EQ(outer_error("", {"depth=1"}),
            "depth (command line): unknown key; did you mean inner.depth?");
  EXPECT_EQ(outer_error("", {"count"}), "'count' (command line): expected section.key=value");
  EXPECT_EQ(outer_error("", {"inner=3"}),
            "inner (command line): a section; expected inner.key=value");
  EXPECT_THAT(outer_error("", {"count=x"}),
              HasSubstr("count (command line): expected a whole number of at least 1, got 'x'"));
  EXPECT_EQ(outer_error("", {"name=\xff"}), "'name' (command line): not valid UTF-8");
}

TEST(ConfigTest, EntriesOfAListAreTextsOrKeys) {
  const auto entries = [](const std::string& yaml, std::vector<std::string> overrides = {}) {
    return parse_outer(yaml, std::move(overrides)).entries;
  };
  using Entries = std::vector<Entry>;
  const Entries both{{"a", 1, std::nullopt}, {"b", 2, Shape::Square}};
  EXPECT_EQ(entries("entries:\n  - a\n  - path: b\n    weight: 2\n    shape: boxy\n"), both);
  EXPECT_EQ(entries("", {"entries=[a, {path: b, weight: 2, shape: square}]"}), both);
  EXPECT_EQ(entries("entries: a\n"), Entries{{.path = "a"}});
  EXPECT_EQ(entries("entries: {path: a}\n"), Entries{{.path = "a"}});
  EXPECT_EQ(entries("entries: [x, y]\n", {"entries={a,b}*.csv"}), Entries{{.path = "{a,b}*.csv"}});
  EXPECT_EQ(entries("entries: [x, y]\n", {"entries=null"}), Entries{});
  EXPECT_EQ(entries("entries:\n"), Entries{});
}

TEST(ConfigTest, ErrorsNameTheEntryOfAList) {
  EXPECT_EQ(outer_error("entries:\n  - a\n  - path: b\n    shape: oval\n"),
            "entries[1].shape (q.yaml:4): expected round, square or boxy or null, got 'oval'");
  EXPECT_EQ(outer_error("", {"entries=[{path: b, shape: oval}]"}),
            "entries[0].shape (command line): expected round, square or boxy or null, got 'oval'");
  EXPECT_EQ(outer_error("entries:\n  - a\n  - pth: b\n"),
            "entries[1].pth (q.yaml:3): unknown key; did you mean path?");
  EXPECT_EQ(outer_error("entries:\n  - weight: 2\n"),
            "entries[0].path (q.yaml:2): missing; expected a text: a place");
  EXPECT_EQ(outer_error("entries:\n  - path: b\n    weight: 13\n"),
            "entries[0].weight (q.yaml:3): 13 brings no luck");
  EXPECT_EQ(outer_error("entries: ['']\n"), "entries[0] (q.yaml:1): expected a text, got ''");
  EXPECT_EQ(outer_error("entries: [[a]]\n"), "entries[0] (q.yaml:1): expected a text, got a list");
  EXPECT_EQ(outer_error("entries: []\n"),
            "entries (q.yaml:1): expected a text, keys with values, or a list of these, or null, "
            "got a list");
}

TEST(ConfigTest, FilesAreReadAndMissingOnesNamed) {
  const auto folder = test::fresh_folder("config");
  write_text(folder / "q.yaml", "count: 4\n");
  EXPECT_EQ(read<Outer>(folder / "q.yaml").count, 4);
  EXPECT_THAT(message_of([&] { read<Outer>(folder / "none.yaml"); }),
              HasSubstr("none.yaml: cannot be opened: No such file"));
  write_text(folder / "long.yaml", "# " + std::string(2 << 20, 'x'));
  EXPECT_THAT(message_of([&] { read<Outer>(folder / "long.yaml"); }),
              HasSubstr("too long for a configuration file"));
}

TEST(ConfigTest, DumpReadsBackToTheSameStruct) {
  Settings settings;
  settings.path = "a \"b\" c: #d\nnull";
  settings.outer.flag = true;
  settings.outer.rate = 0.1 + 0.2;
  settings.outer.name = "null";
  settings.outer.words = {"", "~", "true", "x, y", "누벼울"};
  settings.outer.weights = {2, 0.1};
  settings.outer.targets = std::vector<std::string>{"[a]", "*b"};
  settings.outer.note = "- no: list";
  settings.outer.shape = Shape::Square;
  settings.outer.inner.depth = 1e-7;
  settings.outer.entries = {{"a, b", 1, std::nullopt}, {"c", 0.5, Shape::Square}};
  settings.outer.last = -9;
  const std::string text = dump(settings);
  const Settings again = parse_text<Settings>(text, "dump.yaml");
  EXPECT_EQ(again.path, settings.path);
  EXPECT_EQ(again.outer.weights, settings.outer.weights);
  EXPECT_EQ(again.outer.rate, settings.outer.rate);
  EXPECT_EQ(again.outer.name, settings.outer.name);
  EXPECT_EQ(again.outer.words, settings.outer.words);
  EXPECT_EQ(again.outer.targets, settings.outer.targets);
  EXPECT_EQ(again.outer.note, settings.outer.note);
  EXPECT_EQ(again.outer.shape, Shape::Square);
  EXPECT_EQ(again.outer.inner.depth, 1e-7);
  EXPECT_EQ(again.outer.entries, settings.outer.entries);
  EXPECT_EQ(again.outer.last, -9);
  EXPECT_FALSE(again.outer.limit);
  EXPECT_FALSE(again.outer.type);
  EXPECT_EQ(dump(again), text);
  EXPECT_THAT(text, HasSubstr("outer:\n  flag: true\n  count: 3\n"));
  EXPECT_THAT(text, HasSubstr("  inner:\n    depth: 1e-07\n"
                              "  entries: [\"a, b\", {path: c, weight: 0.5, shape: square}]\n"
                              "  last: -9\n"));
  EXPECT_THAT(text, HasSubstr("  type: auto\n"));
}

TEST(ConfigTest, HelpShowsDefaultHelpAndBounds) {
  const std::string text = help<Settings>();
  EXPECT_THAT(text, HasSubstr("  path (required)\n      a file; a text\n"));
  EXPECT_THAT(text, HasSubstr("\nouter: everything\n"));
  EXPECT_THAT(text, HasSubstr("  count (3)\n      a count; a whole number of at least 1\n"));
  EXPECT_THAT(text, HasSubstr("\nouter.inner: deeper things\n  depth (0.5)\n"));
  EXPECT_THAT(text, HasSubstr("  type (auto)\n"));
  EXPECT_THAT(text, HasSubstr("round, square or boxy"));
  EXPECT_THAT(text,
              HasSubstr("  entries (null)\n      some entries; a text, keys with values, or a "
                        "list of these, or null\n      path (required): a place; a text\n"
                        "      weight (1): how heavy; a number of at least 0\n"));
}

}  // namespace
}  // namespace qlora::config
