// Real rows of every format give the text that the HF stack makes of them.

#include "data/chat_labels.h"
#include "data/prompt_template.h"
#include "data/row_reader.h"
#include "data_module/fake_tokenizer.h"
#include "qlora/base/random.h"
#include "qlora/data/dataset.h"
#include "support/test_data.h"

#include <gtest/gtest.h>

namespace qlora::data {
namespace {

using test::FakeTokenizer;

std::string print_of(const std::string& text) {
  return fmt::format("{} {:016x}", text.size(), stable_hash(text));
}

const Json& goldens() {
  static const Json read = read_json(qlora::test::golden_path("formats/formats.json"));
  return read;
}

std::filesystem::path file_path(const std::string& name) {
  return qlora::test::data_path("instruct/" + name);
}

// The chat template and tokens of a folder of tokenizers, or the goldens' own template.
std::unique_ptr<text::Tokenizer> tokenizer_of(const std::string& name) {
  if (goldens().contains(name)) {
    return std::make_unique<FakeTokenizer>(goldens().at(name).get<std::string>());
  }
  return text::load_tokenizer(qlora::test::data_path("tokenizers/" + name));
}

TEST(GoldenFormats, ConversationsAreTransformersText) {
  QLORA_REQUIRE_DATA(qlora::test::data_path("instruct"));
  for (const char* name : {"smollm2", "qwen2", "exaone-3.5", "tool_template"}) {
    const auto tokenizer = tokenizer_of(name);
    const Labeller labeller(*tokenizer);
    for (const auto& [file, of_templates] : goldens().at("conversations").items()) {
      const auto reader = open_rows(file_path(file), SampleBy::Line);
      Row row;
      for (const Json& expected : of_templates.at(name)) {
        ASSERT_TRUE(reader->next(row)) << file;
        const Json columns = reader->parse(row);
        const Format& format = find_format(DataFormat::Auto, columns, file);
        const auto examples = read_examples(format, columns, file);
        ASSERT_EQ(examples.size(), 1u);
        EXPECT_EQ(print_of(labeller.label(examples[0]).rendered.text), expected.get<std::string>())
            << file << ":" << row.line << " by " << name;
      }
    }
  }
}

TEST(GoldenFormats, PromptsAreThoseOfTheirPythonTemplates) {
  QLORA_REQUIRE_DATA(qlora::test::data_path("instruct"));
  const FakeTokenizer tokenizer("");
  for (const Json& golden : goldens().at("prompts")) {
    DataConfig config;
    config.train = {{.path = file_path(golden.at("file")).string()}};
    config.prompt_template = golden.at("template").get<std::string>();
    config.max_length = 1 << 20;
    const Dataset dataset = load_dataset(config, tokenizer, 0);
    for (std::size_t i = 0; i < golden.at("rows").size(); ++i) {
      const std::string text = tokenizer.decode(dataset.train.get(std::int64_t(i)).ids);
      ASSERT_TRUE(text.starts_with("<s>") && text.ends_with("</s>"));
      EXPECT_EQ(print_of(text.substr(3, text.size() - 7)), golden.at("rows").at(i))
          << config.prompt_template.value() << ", row " << i;
    }
  }
}

// All rows of all files are read, the classification sets among them.
TEST(GoldenFormats, EveryRowOfTheRealFilesIsRead) {
  QLORA_REQUIRE_DATA(qlora::test::data_path("instruct"));
  const auto rows_of = [](const std::string& name, DataFormat expected) {
    const auto path = qlora::test::data_path(name);
    const auto reader = open_rows(path, SampleBy::Line);
    Row row;
    std::int64_t count = 0;
    for (; reader->next(row); ++count) {
      const Json columns = reader->parse(row);
      const Format& format = find_format(DataFormat::Auto, columns, name);
      EXPECT_EQ(format.format, expected);
      read_examples(format, columns, fmt::format("{}:{}", name, row.line));
    }
    return count;
  };
  EXPECT_EQ(rows_of("instruct/gsm8k_alpaca_train.json", DataFormat::Instruction), 7473);
  EXPECT_EQ(rows_of("instruct/gsm8k_test.jsonl", DataFormat::QuestionAnswer), 1319);
  EXPECT_EQ(rows_of("instruct/songys_chatbot_ko.csv", DataFormat::QuestionAnswer), 11823);
  EXPECT_EQ(rows_of("instruct/kullm_252_ko.jsonl", DataFormat::Kullm), 252);
  EXPECT_EQ(rows_of("instruct/glaive_toolcall_en_demo.json", DataFormat::ShareGpt), 300);
  EXPECT_EQ(rows_of("instruct/v1_sft_demo.jsonl", DataFormat::Messages), 500);
  EXPECT_EQ(rows_of("instruct/openai_toy_chat.jsonl", DataFormat::Messages), 10);
  EXPECT_EQ(rows_of("classify/nsmc_train.tsv", DataFormat::Classification), 25000);
}

}  // namespace
}  // namespace qlora::data
