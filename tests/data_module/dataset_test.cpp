#include "qlora/data/dataset.h"
#include "data_module/dataset_files.h"

#include <gtest/gtest.h>

#include <set>

namespace qlora::data {
namespace {

using test::config_for;
using test::error_of;
using test::FakeTokenizer;
using test::many_rows;
using test::text_of;

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
  const SourceStats& stats = dataset.sources.at(0);
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
  EXPECT_EQ(dataset.sources[0].no_answer, 1);
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
  EXPECT_EQ(dataset.sources.size(), 2u);
  EXPECT_EQ(dataset.validation.get(2).file, 1);
  EXPECT_EQ(dataset.validation.get(2).line, 3);
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
  EXPECT_EQ(error_of(config_for(R"({"q": 1, "a": 2})")).substr(0, 54),
            "train.jsonl:1: no known format has the columns q, a; e");
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
  missing.train = {{.path = "/nowhere/train.jsonl"}};
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

TEST(Dataset, LearnsAllOfAText) {
  const Dataset dataset =
      load_dataset(config_for("ab<|im_end|>\n\nc</s>\n", "train.txt"), FakeTokenizer(), 0);
  ASSERT_EQ(dataset.train.size(), 2);
  const Sample first = dataset.train.get(0);
  EXPECT_EQ(first.ids, (std::vector<std::int32_t>{FakeTokenizer::kBos, 'a', 'b',
                                                  FakeTokenizer::kEnd, FakeTokenizer::kEos}));
  EXPECT_EQ(first.label_count(), 4);
  EXPECT_EQ(dataset.train.get(1).ids,
            (std::vector<std::int32_t>{FakeTokenizer::kBos, 'c', FakeTokenizer::kEos}));
  EXPECT_EQ(dataset.sources[0].without_end, 0);
}

TEST(Dataset, TakesTokensAsTheyAre) {
  const Dataset dataset =
      load_dataset(config_for("{\"input_ids\": [65, 66, 257], \"labels\": [65, -100, 257]}\n"
                              "{\"input_ids\": [65, 66]}\n"),
                   FakeTokenizer(), 0);
  const Sample first = dataset.train.get(0);
  EXPECT_EQ(first.ids, (std::vector<std::int32_t>{65, 66, 257}));
  EXPECT_EQ(first.labels, (std::vector<std::int32_t>{-100, -100, 257}));
  EXPECT_EQ(dataset.sources[0].without_end, 1);
  EXPECT_EQ(error_of(config_for("{\"input_ids\": [65, 261]}")),
            "train.jsonl:1: input_ids[1] is 261; the tokenizer has 261 tokens");
}

TEST(Dataset, FillsATemplate) {
  const auto filled = [](std::string text, const std::string& row) {
    DataConfig config = config_for(row);
    config.prompt_template = std::move(text);
    return text_of(config);
  };
  EXPECT_EQ(filled("{q} -> {a}", R"({"q": "x", "a": "y</s>"})"), "<s>x -> y</s></s>");
  EXPECT_EQ(filled("dolly", R"({"instruction": "i", "context": "c", "response": "r"})"),
            "<s>### Instruction:\ni\n\n### Input:\nc\n\n### Response:\nr</s>");
  EXPECT_EQ(filled("{motivation}: {instruction} {input} {output}",
                   R"({"motivation": "m", "instruction": "i", "instances": [{"output": "o"}]})"),
            "<s>m: i  o</s>");
  EXPECT_EQ(filled("{document}\n{label}", R"({"document": "d", "label": 1})"), "<s>d\n1</s>");
  EXPECT_EQ(filled("{prompt}{chosen}", R"({"prompt": "p", "chosen": "c", "rejected": "r"})"),
            "<s>pc</s>");
  DataConfig config = config_for(R"({"q": "x"})");
  config.prompt_template = "{a}";
  EXPECT_EQ(error_of(config),
            "train.jsonl:1: no column 'a', which the template names; the row has q");
}

TEST(Dataset, ATemplateHasNoPlaceForAHistory) {
  DataConfig config = config_for(R"({"instruction": "q", "output": "a", "history": [["b", "c"]]})");
  config.prompt_template = "alpaca";
  EXPECT_EQ(error_of(config),
            "train.jsonl:1: data.template has no place for a history; use a chat template");
}

TEST(Dataset, RenamesColumns) {
  DataConfig config = config_for(R"({"ask": "q", "reply": "a", "output": "old"})");
  config.rename_columns = {"ask=instruction", "reply=output", "other=x"};
  EXPECT_EQ(text_of(config), "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\na<|im_end|>\n");
  config.rename_columns = {"ask"};
  EXPECT_EQ(error_of(config),
            "data.rename_columns: 'ask'; expected OLD=NEW, such as query=instruction");
}

TEST(Dataset, ReadsTheWeightsOfSamples) {
  DataConfig config = config_for(R"({"instruction": "q", "output": "a", "w": 0.5})");
  config.weight_column = "w";
  EXPECT_EQ(load_dataset(config, FakeTokenizer(), 0).train.get(0).weight, 0.5f);
  config.weight_column = "v";
  EXPECT_EQ(error_of(config), "train.jsonl:1: no column 'v', which data.weight_column names");
  DataConfig table = config_for("instruction\toutput\tw\nq\ta\t2.5\n", "train.jsonl.tsv");
  table.weight_column = "w";
  EXPECT_EQ(load_dataset(table, FakeTokenizer(), 0).train.get(0).weight, 2.5f);
  for (const char* value : {"0", "-1", "\"x\"", "null", "1e99"}) {
    DataConfig wrong =
        config_for(fmt::format("{{\"instruction\": \"q\", \"output\": \"a\", \"w\": {}}}", value));
    wrong.weight_column = "w";
    EXPECT_TRUE(error_of(wrong).ends_with("; expected a number above 0")) << value;
  }
}

TEST(Dataset, ClassesAreNotLearnedByALanguageModel) {
  EXPECT_EQ(error_of(config_for("id\tdocument\tlabel\n1\tx\t0\n", "train.jsonl.tsv")),
            "train.jsonl.tsv:2: rows of format classification train a classifier, not a language "
            "model; data.template makes texts of them");
}

}  // namespace
}  // namespace qlora::data
