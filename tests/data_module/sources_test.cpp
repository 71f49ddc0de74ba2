// Several files and sources as one data set, and the bad rows among them.

#include "data_module/dataset_files.h"
#include "qlora/data/preview.h"

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <utility>

namespace qlora::data {
namespace {

using test::config_for;
using test::error_of;
using test::FakeTokenizer;
using test::many_rows;

// A folder of files by name.
std::filesystem::path folder_with(const std::vector<std::pair<std::string, std::string>>& files) {
  const auto folder = qlora::test::fresh_folder("sources");
  for (const auto& [name, text] : files) write_text(folder / name, text);
  return folder;
}

std::vector<SourceConfig> sources_in(const std::filesystem::path& folder,
                                     std::vector<SourceConfig> sources) {
  for (SourceConfig& source : sources) source.path = (folder / source.path).string();
  return sources;
}

std::string text_rows(const std::string& word, int count) {
  std::string text;
  for (int i = 0; i < count; ++i) text += fmt::format("{{\"text\": \"{}{}\"}}\n", word, i);
  return text;
}

// How often each text stands in a store.
std::map<std::string, int> count_texts(const SampleStore& store) {
  std::map<std::string, int> counts;
  for (std::int64_t i = 0; i < store.size(); ++i) {
    ++counts[FakeTokenizer().decode(store.get(i).ids, /*skip_special=*/true)];
  }
  return counts;
}

TEST(Sources, KnowWhereEachSampleIsFrom) {
  const auto folder = folder_with({{"a.jsonl", text_rows("a", 2)}, {"b.csv", "Q,A\nq,x\n"}});
  DataConfig config;
  config.train = sources_in(folder, {{.path = "b.csv"}, {.path = "a.jsonl"}});
  const Dataset dataset = load_dataset(config, FakeTokenizer(), 0);
  ASSERT_EQ(dataset.train.size(), 3);
  const Sample last = dataset.train.get(2);
  EXPECT_EQ(last.id, 2);  // over all sources
  EXPECT_EQ(last.line, 2);
  EXPECT_EQ(dataset.files[static_cast<std::size_t>(last.file)], (folder / "a.jsonl").string());
  EXPECT_EQ(dataset.sources[0].formats, "question_answer");
  EXPECT_EQ(dataset.sources[1].formats, "text");
}

TEST(Sources, AFolderMayHoldSeveralFormats) {
  const auto folder = folder_with(
      {{"a.jsonl", text_rows("a", 2)}, {"b.jsonl", many_rows(3)}, {"c.jsonl", many_rows(1)}});
  DataConfig config;
  config.train = {{.path = folder.string()}};
  const Dataset dataset = load_dataset(config, FakeTokenizer(), 0);
  EXPECT_EQ(dataset.sources[0].formats, "text, instruction");
  EXPECT_EQ(dataset.sources[0].files, 3);
  EXPECT_EQ(dataset.train.size(), 6);
}

TEST(Sources, AreWeighted) {
  const auto folder = folder_with({{"a.jsonl", text_rows("a", 10)},
                                   {"b.jsonl", text_rows("b", 10)},
                                   {"c.jsonl", text_rows("c", 10)}});
  DataConfig config;
  config.train = sources_in(folder, {{.path = "a.jsonl", .weight = 2.5},
                                     {.path = "b.jsonl", .weight = 0.3},
                                     {.path = "c.jsonl", .weight = 0}});
  const Dataset dataset = load_dataset(config, FakeTokenizer(), 5);
  const auto counts = count_texts(dataset.train);
  std::map<std::pair<char, int>, int> histogram;
  for (const auto& [text, count] : counts) ++histogram[{text[0], count}];
  const std::map<std::pair<char, int>, int> expected{{{'a', 2}, 5}, {{'a', 3}, 5}, {{'b', 1}, 3}};
  EXPECT_EQ(histogram, expected);
  EXPECT_EQ(dataset.sources[0].per_epoch, 25);
  EXPECT_EQ(dataset.sources[2].per_epoch, 0);
  std::set<std::int64_t> ids;  // each copy is a sample of its own
  for (std::int64_t i = 0; i < dataset.train.size(); ++i) ids.insert(dataset.train.get(i).id);
  EXPECT_EQ(ids.size(), 28u);
  EXPECT_EQ(count_texts(load_dataset(config, FakeTokenizer(), 5).train), counts);
  EXPECT_NE(count_texts(load_dataset(config, FakeTokenizer(), 6).train), counts);
  for (SourceConfig& source : config.train) source.weight = 0;
  EXPECT_EQ(error_of(config), "data.train: the weights leave no sample to train on");
}

TEST(Sources, HeldOutSamplesAreNotRepeatedIntoTraining) {
  const auto folder =
      folder_with({{"a.jsonl", text_rows("a", 20)}, {"b.jsonl", text_rows("b", 20)}});
  DataConfig config;
  config.train = sources_in(folder, {{.path = "a.jsonl", .weight = 3}, {.path = "b.jsonl"}});
  config.validation_split = 0.25;
  const Dataset dataset = load_dataset(config, FakeTokenizer(), 5);
  const auto train = count_texts(dataset.train);
  ASSERT_EQ(dataset.validation.size(), 10);
  for (const auto& [text, count] : count_texts(dataset.validation)) {
    EXPECT_EQ(train.count(text), 0u) << text;
  }
  for (const auto& [text, count] : train) EXPECT_EQ(count, text[0] == 'a' ? 3 : 1) << text;
  EXPECT_EQ(dataset.sources[0].held_out + dataset.sources[1].held_out, 10);
}

TEST(Sources, MayHaveFormatsAndTemplatesOfTheirOwn) {
  const std::string row = R"({"prompt": "p", "completion": "c", "response": "r"})";
  const auto folder = folder_with({{"a.jsonl", row}, {"b.jsonl", row}, {"c.jsonl", row}});
  DataConfig config;
  config.format = DataFormat::PromptCompletion;
  config.prompt_template = "all: {response}";
  config.train = sources_in(
      folder, {{.path = "a.jsonl"},
               {.path = "b.jsonl", .prompt_template = "own: {prompt}"},
               {.path = "c.jsonl", .prompt_template = ""},
               {.path = "c.jsonl", .format = DataFormat::QuestionAnswer, .prompt_template = ""}});
  config.validation = sources_in(folder, {{.path = "a.jsonl", .prompt_template = "v: {prompt}"}});
  const FakeTokenizer tokenizer("{% for m in messages %}<{{ m.content }}>{% endfor %}");
  const Dataset dataset = load_dataset(config, tokenizer, 0);
  const auto text_of = [&](const SampleStore& store, std::int64_t i) {
    return tokenizer.decode(store.get(i).ids, /*skip_special=*/true);
  };
  ASSERT_EQ(dataset.train.size(), 4);
  EXPECT_EQ(text_of(dataset.train, 0), "all: r");
  EXPECT_EQ(text_of(dataset.train, 1), "own: p");
  EXPECT_EQ(text_of(dataset.train, 2), "pc");
  EXPECT_EQ(text_of(dataset.train, 3), "<p><r>");
  EXPECT_EQ(text_of(dataset.validation, 0), "v: p");
  std::vector<std::string> formats;
  for (const SourceStats& source : dataset.sources) formats.push_back(source.formats);
  EXPECT_EQ(formats, (std::vector<std::string>{"template", "template", "prompt_completion",
                                               "question_answer", "template"}));
}

TEST(Sources, TellWhoseTemplateIsNone) {
  DataConfig config = config_for(many_rows(1));
  config.train.push_back(config.train[0]);
  config.train[1].prompt_template = "no column";
  EXPECT_TRUE(error_of(config).starts_with("data.train[1].template: ")) << error_of(config);
}

// What max_samples leaves unread must not count for the sources behind it.
TEST(Sources, CountTheFilesThatWereRead) {
  const auto folder = folder_with({{"a-1.jsonl", text_rows("a", 2)},
                                   {"a-2.jsonl", text_rows("b", 2)},
                                   {"c.jsonl", text_rows("c", 2) + text_rows("c", 1)}});
  DataConfig config;
  config.train = sources_in(folder, {{.path = "a-*.jsonl"}, {.path = "c.jsonl"}});
  config.max_samples = 2;
  const FakeTokenizer tokenizer;
  const Dataset dataset = load_dataset(config, tokenizer, 0);
  EXPECT_EQ(dataset.sources[0].files, 1);
  const auto findings = examine(dataset.sources, {&dataset.train, nullptr}, tokenizer);
  EXPECT_EQ(findings.at(0).special_tokens.at(0).times, 2);
  EXPECT_EQ(findings.at(1).special_tokens.at(0).times, 2);
}

TEST(BadRows, AreCountedByKind) {
  const std::string good = R"({"messages": [{"role": "user", "content": "q"},)"
                           R"({"role": "assistant", "content": "a"}]})"
                           "\n";
  std::string text = "{\"messages\": oops}\n" + good;  // the first row tells no format
  text += "{\"other\": 1}\n{\"other\": 2}\n";
  text += "{\"messages\": \"\xFF\"}\n";
  text += std::string("{\"messages\": \"\0\"}\n", 18);
  text += "{\"messages\": 3}\n" + good;
  text += R"({"messages": [{"role": "user", "content": "x"}, {"role": "system", "content": "s"}]})"
          "\n[1]\n";
  DataConfig config = config_for(text);
  EXPECT_TRUE(error_of(config).starts_with("train.jsonl:1:14: not valid JSON")) << error_of(config);
  config.on_error = OnError::Skip;
  const Dataset dataset = load_dataset(config, FakeTokenizer(), 0);
  EXPECT_EQ(dataset.train.size(), 2);
  EXPECT_EQ(dataset.train.get(1).line, 8);
  EXPECT_EQ(dataset.train.get(1).id, 7);
  EXPECT_EQ(dataset.sources[0].rows, 10);
  EXPECT_EQ(dataset.sources[0].formats, "messages");
  std::map<std::string, std::int64_t> counts;
  for (const SkippedRows& skipped : dataset.sources[0].skipped)
    counts[skipped.reason] = skipped.rows;
  const std::map<std::string, std::int64_t> expected{{"a column is missing", 2},
                                                     {"a value of the wrong type", 1},
                                                     {"not UTF-8 text", 2},
                                                     {"not valid JSON or CSV", 2},
                                                     {"roles out of order", 1}};
  EXPECT_EQ(counts, expected);
  EXPECT_TRUE(dataset.sources[0].skipped[0].first.find("train.jsonl:1:14: ") != std::string::npos);
}

TEST(BadRows, OfARefusingTemplateAreCounted) {
  const FakeTokenizer tokenizer(
      "{% if messages[0].content == 'q1' %}{{ raise_exception('no') }}"
      "{% endif %}{{ messages[0].content }}{{ messages[1].content }}");
  DataConfig config = config_for(many_rows(3));
  config.on_error = OnError::Skip;
  const Dataset dataset = load_dataset(config, tokenizer, 0);
  EXPECT_EQ(dataset.train.size(), 2);
  EXPECT_EQ(dataset.sources[0].skipped.at(0).reason, "refused by the template or tokenizer");
}

TEST(BadRows, TheRestOfABrokenFileIsCountedOnce) {
  const auto folder = folder_with({{"a.json", "[{\"text\": \"x\"}, {\"text\": \"y\"}, {\"te"},
                                   {"b.json", ""},
                                   {"c.json", "[{\"text\": \"z\"}]"}});
  DataConfig config;
  config.train = {{.path = folder.string()}};
  config.on_error = OnError::Skip;
  const Dataset dataset = load_dataset(config, FakeTokenizer(), 0);
  EXPECT_EQ(dataset.train.size(), 3);
  const SkippedRows& skipped = dataset.sources[0].skipped.at(0);
  EXPECT_EQ(skipped.reason, "rest of a file, unreadable");
  EXPECT_EQ(skipped.rows, 2);
  EXPECT_TRUE(
      skipped.first.ends_with("a.json:1:32: the file ends inside this row of the list; is "
                              "it truncated?"))
      << skipped.first;
}

TEST(BadRows, AloneAreNoDataset) {
  DataConfig config = config_for("{\"a\": 1}\n");
  config.on_error = OnError::Skip;
  const std::string what = error_of(config);
  EXPECT_TRUE(what.starts_with("train.jsonl: none of the 1 rows has anything to learn")) << what;
  EXPECT_NE(what.find("1 skipped (a column is missing; "), std::string::npos) << what;
}

}  // namespace
}  // namespace qlora::data
