#include "qlora/data/dataset.h"
#include "data_module/fake_tokenizer.h"
#include "qlora/base/error.h"
#include "qlora/base/file.h"
#include "support/test_data.h"

#include <gtest/gtest.h>

#include <set>

namespace qlora::data {
namespace {

using test::FakeTokenizer;

DataConfig config_for(const std::string& text, const std::string& name = "train.jsonl") {
  const auto path = qlora::test::fresh_folder("dataset") / name;
  write_text(path, text);
  DataConfig config;
  config.train = path.string();
  return config;
}

std::string error_of(const DataConfig& config) {
  try {
    load_dataset(config, FakeTokenizer(), 0);
  } catch (const Error& error) {
    const std::string what = error.what();
    EXPECT_EQ(what.find('\n'), std::string::npos) << what;
    const auto name = what.find("train.jsonl");
    return name == std::string::npos ? what : what.substr(name);
  }
  return "no error";
}

std::string text_of(const DataConfig& config) {
  const FakeTokenizer tokenizer;
  return tokenizer.decode(load_dataset(config, tokenizer, 0).train.get(0).ids);
}

std::string many_rows(int count) {
  std::string text;
  for (int i = 0; i < count; ++i) {
    text += fmt::format("{{\"instruction\": \"q{}\", \"output\": \"a\"}}\n", i);
  }
  return text;
}

TEST(Dataset, FindsTheFormatByTheColumns) {
  const std::string expected =
      "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\na<|im_end|>\n";
  EXPECT_EQ(text_of(config_for(R"({"instruction": "q", "input": "", "output": "a"})")), expected);
  EXPECT_EQ(text_of(config_for(R"({"instruction": "q", "input": null, "output": "a"})")), expected);
  EXPECT_EQ(text_of(config_for(R"([{"messages": [{"role": "user", "content": "q"},
      {"role": "assistant", "content": "a"}]}])")),
            expected);
  EXPECT_EQ(text_of(config_for(R"([{"messages": [
      {"role": "user", "content": [{"type": "text", "text": "q"}]},
      {"role": "assistant", "content": [{"type": "text", "value": "a"}]}]}])")),
            expected);
  EXPECT_EQ(text_of(config_for(R"([{"prompt": [{"role": "user", "content": "q"}],
      "completion": [{"role": "assistant", "content": "a"}]}])")),
            expected);
  EXPECT_EQ(text_of(config_for(R"({"prompt": "q", "completion": "a"})")), "<s>qa</s>");
}

TEST(Dataset, KeepsTheOrderAndNumbersOfTheFile) {
  const Dataset dataset = load_dataset(config_for(many_rows(300)), FakeTokenizer(), 0);
  ASSERT_EQ(dataset.train.size(), 300);
  for (std::int64_t i = 0; i < 300; ++i) {
    const Sample sample = dataset.train.get(i);
    EXPECT_NE(FakeTokenizer().decode(sample.ids).find(fmt::format("q{}<", i)), std::string::npos);
    EXPECT_EQ(sample.id, i);
  }
}

TEST(Dataset, CutsLongSamplesAndDropsThoseWithoutAnAnswer) {
  // The prompt alone: "<|im_start|>user\n" is 6 tokens, "<|im_end|>\n" 2, the answer's header 11.
  DataConfig config = config_for(R"({"instruction": "q", "output": "a"})"
                                 "\n"
                                 R"({"instruction": "q", "output": "abcdefgh"})"
                                 "\n"
                                 R"({"instruction": "too long a question", "output": "a"})"
                                 "\n"
                                 R"({"messages": [], "instruction": "x", "output": ""})"
                                 "\n");
  config.format = DataFormat::Instruction;
  config.max_length = 24;
  const Dataset dataset = load_dataset(config, FakeTokenizer(), 0);
  const FileStats& stats = dataset.files.at(0);
  ASSERT_EQ(dataset.train.size(), 3);
  EXPECT_EQ(dataset.train.length(1), 24);
  EXPECT_EQ(stats.rows, 4);
  EXPECT_EQ(stats.samples, 3);
  EXPECT_EQ(stats.truncated, 1);
  EXPECT_EQ(stats.answer_cut, 1);
  EXPECT_EQ(stats.no_answer, 0);
  EXPECT_EQ(stats.longest, 24);
}

TEST(Dataset, CountsRowsWithoutAnswer) {
  const Dataset dataset =
      load_dataset(config_for(R"({"messages": [{"role": "user", "content": "q"}]})"
                              "\n"
                              R"({"messages": [{"role": "user", "content": "q"},)"
                              R"({"role": "assistant", "content": "a"}]})"),
                   FakeTokenizer(), 0);
  ASSERT_EQ(dataset.train.size(), 1);
  EXPECT_EQ(dataset.train.get(0).id, 1);
  EXPECT_EQ(dataset.files[0].no_answer, 1);
}

TEST(Dataset, HoldsOutAShare) {
  DataConfig config = config_for(many_rows(30));
  config.validation_split = 0.1;
  const Dataset dataset = load_dataset(config, FakeTokenizer(), 7);
  EXPECT_EQ(dataset.train.size(), 27);
  ASSERT_EQ(dataset.validation.size(), 3);
  std::set<std::int64_t> ids;
  for (const auto* part : {&dataset.train, &dataset.validation}) {
    for (std::int64_t i = 0; i < part->size(); ++i) ids.insert(part->get(i).id);
  }
  EXPECT_EQ(ids.size(), 30u);
  const Dataset again = load_dataset(config, FakeTokenizer(), 7);
  EXPECT_EQ(again.validation.get(0).id, dataset.validation.get(0).id);
  config.validation_split = 0.99;
  EXPECT_TRUE(error_of(config).starts_with("data.validation_split: 0.99 of 30 samples"));
}

TEST(Dataset, ReadsAValidationFile) {
  DataConfig config = config_for(many_rows(3));
  config.validation = config.train;
  const Dataset dataset = load_dataset(config, FakeTokenizer(), 0);
  EXPECT_EQ(dataset.validation.size(), 3);
  EXPECT_EQ(dataset.files.size(), 2u);
}

TEST(Dataset, SaysWhatIsWrongWithARow) {
  const std::string good = R"({"instruction": "q", "output": "a"})"
                           "\n";
  EXPECT_EQ(
      error_of(config_for(good + R"({"instruction": "q", "answer": "a"})")),
      "train.jsonl:2: no column 'output'; the row has instruction, answer; format instruction "
      "needs 'instruction' and 'output'");
  EXPECT_EQ(error_of(config_for(good + R"({"instruction": 5, "output": "a"})")),
            "train.jsonl:2: 'instruction' is 5; expected a text");
  EXPECT_EQ(
      error_of(config_for(R"({"q": 1, "a": 2})")),
      "train.jsonl:1: no known format has the columns q, a; expected messages ('messages'), "
      "prompt_completion ('prompt' and 'completion'), instruction ('instruction' and 'output')");
  EXPECT_EQ(error_of(config_for("{}")).substr(0, 54),
            "train.jsonl:1: no known format has the columns none; e");
  EXPECT_EQ(error_of(config_for(R"({"messages": "x"})")).substr(0, 48),
            "train.jsonl:1: 'messages' is not a list of messa");
  EXPECT_EQ(error_of(config_for(R"({"messages": [{"content": "x"}]})")),
            "train.jsonl:1: 'role' is missing; expected a text");
  EXPECT_EQ(error_of(config_for(R"({"messages": [{"role": "user"}]})")),
            "train.jsonl:1: a message has no content");
  EXPECT_EQ(
      error_of(config_for(R"({"messages": [{"role": "user", "content": [{"type": "image"}]}]})")),
      "train.jsonl:1: a part of a content is not text; only text is learned");
  EXPECT_TRUE(error_of(config_for(R"({"messages": [{"role": "user", "content": "x"}]})"))
                  .starts_with("train.jsonl: none of the 1 rows has anything to learn: 1 without"));
  EXPECT_TRUE(error_of(config_for(good + "{\"instruction\"")).starts_with("train.jsonl:2:"));
  DataConfig missing;
  missing.train = "/nowhere/train.jsonl";
  EXPECT_NE(error_of(missing), "no error");
}

TEST(Dataset, NamesTheFirstOfSeveralBadRows) {
  std::string text = many_rows(200);
  for (int i = 0; i < 50; ++i) text += "{\"instruction\": 1}\n";
  EXPECT_TRUE(error_of(config_for(text)).starts_with("train.jsonl:201: "));
}

TEST(Dataset, ATemplatesRefusalNamesTheRow) {
  const FakeTokenizer tokenizer("{{ raise_exception('only users speak') }}");
  try {
    load_dataset(config_for(many_rows(2)), tokenizer, 0);
    FAIL();
  } catch (const Error& error) {
    EXPECT_TRUE(std::string(error.what())
                    .ends_with("train.jsonl:1: chat template:1: the template refuses this "
                               "conversation: only users speak"))
        << error.what();
  }
}

}  // namespace
}  // namespace qlora::data
