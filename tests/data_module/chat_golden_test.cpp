// What is learned under every built-in chat template, by the goldens of tests/data/chat.

#include "data/encode_sample.h"
#include "data/row_reader.h"
#include "data_module/fake_tokenizer.h"
#include "data_module/marked.h"
#include "qlora/base/file.h"
#include "qlora/base/random.h"
#include "support/test_data.h"

#include <gtest/gtest.h>

namespace qlora::data {
namespace {

using test::FakeTokenizer;

constexpr const char* kMarkers[] = {"<|start_header_id|>",
                                    "<|end_header_id|>",
                                    "<|eot_id|>",
                                    "[INST]",
                                    "[/INST]",
                                    "[TOOL_CALLS]",
                                    "<start_of_turn>",
                                    "<end_of_turn>",
                                    "<|user|>",
                                    "<|assistant|>",
                                    "<|end|>",
                                    "[|user|]",
                                    "[|assistant|]",
                                    "[|endofturn|]",
                                    "<tool_call>",
                                    "</tool_call>"};

const Json& chat_goldens() {
  static const Json read = read_json(qlora::test::golden_path("chat/chat.json"));
  return read;
}

Labeller labeller_of(const text::Tokenizer& tokenizer, const std::string& family) {
  DataConfig config;
  config.chat_template = family;
  return Labeller(tokenizer, label_options(config));
}

std::string entry_of(const std::string& text) {
  return fmt::format("{} {:016x}", text.size(), stable_hash(text));
}

// Calls `check` with each golden row of a file and its number.
template <class Check>
void for_each_row(const std::string& file, std::size_t count, Check check) {
  const auto reader = open_rows(qlora::test::data_path("instruct/" + file), SampleBy::Line);
  Row row;
  for (std::size_t i = 0; i < count; ++i) {
    ASSERT_TRUE(reader->next(row)) << file;
    const Json columns = reader->parse(row);
    const Format& format = find_format(DataFormat::Auto, columns, file);
    const auto examples = read_examples(format, columns, file);
    ASSERT_EQ(examples.size(), 1u);
    check(examples[0], i);
  }
}

class BuiltinTemplate : public testing::TestWithParam<const char*> {
 protected:
  BuiltinTemplate()
      : tokenizer_("", /*definition=*/0, {std::begin(kMarkers), std::end(kMarkers)}),
        labeller_(labeller_of(tokenizer_, GetParam())) {}

  // `expected`: the text with its marks, that text's size and hash, or null for a refusal.
  void expect_marked(const Example& example, const Json& expected, const std::string& what) const {
    if (expected.is_null()) {
      EXPECT_THROW(labeller_.label(example), Error) << what;
      return;
    }
    const LabelledText labelled = labeller_.label(example);
    const std::string text = test::marked(labelled);
    const auto& golden = expected.get_ref<const std::string&>();
    EXPECT_TRUE(text == golden || entry_of(text) == golden) << what << ": " << text;
    const auto* const instruction = std::get_if<Instruction>(&example);
    expect_exact(labelled, instruction != nullptr ? to_conversation(*instruction).messages
                                                  : std::get<Conversation>(example).messages);
  }

  // Of what messages say, learned is what assistants say.
  static void expect_exact(const LabelledText& labelled, const Json& messages) {
    for (const text::RenderedPart& part : labelled.rendered.parts) {
      const bool learned = std::ranges::any_of(labelled.learned, [&](text::TextRange range) {
        return range.begin <= part.range.begin && part.range.end <= range.end;
      });
      const bool touched = std::ranges::any_of(labelled.learned, [&](text::TextRange range) {
        return range.begin < part.range.end && part.range.begin < range.end;
      });
      const bool answer =
          part.message >= 0 &&
          messages.at(static_cast<std::size_t>(part.message)).at("role") == "assistant";
      EXPECT_EQ(learned, answer) << messages.dump();
      EXPECT_EQ(touched, answer) << messages.dump();
    }
  }

  FakeTokenizer tokenizer_;
  Labeller labeller_;
};

TEST_P(BuiltinTemplate, LearnsTheAnswersOfDialogues) {
  for (const auto& [name, expected] : chat_goldens().at("rendered").at(GetParam()).items()) {
    const Json& dialogue = chat_goldens().at("dialogues").at(name);
    expect_marked(Conversation{dialogue.at("messages"), dialogue.at("tools"), 0}, expected, name);
  }
}

TEST_P(BuiltinTemplate, LearnsTheAnswersOfRealRows) {
  QLORA_REQUIRE_DATA(qlora::test::data_path("instruct"));
  for (const auto& [file, families] : chat_goldens().at("rows").items()) {
    const Json& expected = families.at(GetParam());
    for_each_row(file, expected.size(), [&](const Example& example, std::size_t i) {
      expect_marked(example, expected[i], fmt::format("{}, row {}", file, i));
    });
  }
}

INSTANTIATE_TEST_SUITE_P(Families, BuiltinTemplate,
                         testing::Values("chatml", "llama-2", "llama-3", "llama-3.1", "mistral",
                                         "qwen", "qwen-3", "gemma", "phi-3", "exaone-3.5",
                                         "exaone-4"),
                         [](const auto& instance) {
                           std::string name = instance.param;
                           std::erase_if(name, [](char c) { return c == '-' || c == '.'; });
                           return name;
                         });

// The tokenizer of the test data, with the settings that its model's own directory has.
std::unique_ptr<text::Tokenizer> tokenizer_of_golden(const std::string& name, const Json& golden) {
  const auto folder = qlora::test::data_path("tokenizers/" + name);
  if (!golden.contains("tokenizer_config")) return text::load_tokenizer(folder);
  const auto own = qlora::test::fresh_folder(name);
  std::filesystem::copy(folder, own);
  write_text(own / "tokenizer_config.json", golden.at("tokenizer_config").dump());
  return text::load_tokenizer(own);
}

TEST(ChatGoldens, IdsAndLabelsAreThoseOfTheHfTokenizers) {
  QLORA_REQUIRE_DATA(qlora::test::data_path("instruct"));
  for (const auto& [folder, golden] : chat_goldens().at("ids").items()) {
    const auto tokenizer = tokenizer_of_golden(folder, golden);
    const Labeller labeller =
        labeller_of(*tokenizer, golden.at("chat_template").get<std::string>());
    for (const auto& [file, expected] : golden.at("files").items()) {
      for_each_row(file, expected.size(), [&](const Example& example, std::size_t i) {
        const Sample sample = encode_sample(*tokenizer, labeller.label(example));
        const std::string text =
            fmt::format("{}\n{}", fmt::join(sample.ids, " "), fmt::join(sample.labels, " "));
        EXPECT_EQ(fmt::format("{} {:016x}", sample.ids.size(), stable_hash(text)),
                  expected[i].get<std::string>())
            << folder << ", " << file << ", row " << i;
      });
    }
  }
}

}  // namespace
}  // namespace qlora::data
