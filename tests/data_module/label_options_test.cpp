// What the settings change in what is learned, and templates that make it hard to find.

#include "data/chat_labels.h"
#include "data_module/fake_tokenizer.h"
#include "data_module/marked.h"
#include "qlora/base/file.h"
#include "support/message.h"
#include "support/test_data.h"

#include <gtest/gtest.h>

namespace qlora::data {
namespace {

using qlora::test::message_of;
using test::FakeTokenizer;
using test::marked;

const Json kDialogue = parse_json(R"([
    {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
    {"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}])",
                                  "test");

// A turn is the first letter of its role, its text and EOS.
constexpr char kShort[] =
    "{% for m in messages %}{{ m.role[0] + m.content + '</s>' }}{% endfor %}"
    "{% if add_generation_prompt %}a{% endif %}";

std::string with(LabelOptions options, const Json& messages = kDialogue) {
  const FakeTokenizer tokenizer(kShort);
  return marked(Labeller(tokenizer, std::move(options)).label(Conversation{messages, nullptr, 0}));
}

TEST(LabelOptions, ChooseTheEndsThatAreLearned) {
  EXPECT_EQ(with({}), "ua</s>a⟦b</s>⟧uc</s>a⟦d</s>⟧");
  EXPECT_EQ(with({.train_on_eos = TrainOnEos::Last}), "ua</s>a⟦b⟧</s>uc</s>a⟦d</s>⟧");
  EXPECT_EQ(with({.train_on_eos = TrainOnEos::None}), "ua</s>a⟦b⟧</s>uc</s>a⟦d⟧</s>");
  EXPECT_EQ(with({.train_on_eos = TrainOnEos::All}), "ua⟦</s>⟧a⟦b</s>⟧uc⟦</s>⟧a⟦d</s>⟧");
}

TEST(LabelOptions, AllEndsAreNotThoseThatUsersWrite) {
  Json messages = kDialogue;
  messages[0]["content"] = "</s>";
  EXPECT_EQ(with({.train_on_eos = TrainOnEos::All}, messages),
            "u</s>⟦</s>⟧a⟦b</s>⟧uc⟦</s>⟧a⟦d</s>⟧");
}

TEST(LabelOptions, InputsAndHistory) {
  EXPECT_EQ(with({.train_on_inputs = true}), "⟦ua</s>ab</s>uc</s>ad</s>⟧");
  EXPECT_EQ(with({.mask_history = true}), "ua</s>ab</s>uc</s>a⟦d</s>⟧");
}

TEST(LabelOptions, AnswersOfNoWeightAreNotLearned) {
  Json messages = kDialogue;
  messages[1]["weight"] = 0;
  EXPECT_EQ(with({}, messages), "ua</s>ab</s>uc</s>a⟦d</s>⟧");
  messages[3]["train"] = false;
  EXPECT_EQ(with({}, messages), "ua</s>ab</s>uc</s>ad</s>");
  EXPECT_EQ(with({.train_on_inputs = true}, messages), "ua</s>ab</s>uc</s>ad</s>");
}

TEST(LabelOptions, HoldForPromptAndCompletion) {
  const FakeTokenizer tokenizer;
  const auto label = [&](LabelOptions options, const char* completion) {
    return marked(Labeller(tokenizer, std::move(options))
                      .label(PlainText{{{"p", false, true}, {completion, true, true}}}));
  };
  EXPECT_EQ(label({}, "c"), "p⟦c</s>⟧");
  EXPECT_EQ(label({.train_on_eos = TrainOnEos::None}, "c"), "p⟦c⟧</s>");
  EXPECT_EQ(label({.train_on_eos = TrainOnEos::None}, "c</s>"), "p⟦c⟧</s>");
  EXPECT_EQ(label({.train_on_inputs = true}, "c"), "⟦pc</s>⟧");
}

TEST(LabelOptions, SystemAndHistoryOfAnInstruction) {
  const Instruction row{"c", "", "d", "s", {{"a", "b"}}};
  EXPECT_EQ(marked(Labeller(FakeTokenizer(kShort)).label(row)),
            "ss</s>ua</s>a⟦b</s>⟧uc</s>a⟦d</s>⟧");
  EXPECT_EQ(message_of([&] { Labeller(FakeTokenizer("")).label(row); }),
            "the model has no chat template for a system's turn and a history; set "
            "data.chat_template");
}

TEST(LabelOptions, AChatTemplateIsANameAFileOrItself) {
  DataConfig config;
  const auto source = [&](const std::string& setting) {
    config.chat_template = setting;
    return label_options(config).chat_template;
  };
  EXPECT_NE(source("chatml").find("<|im_start|>"), std::string::npos);
  EXPECT_EQ(source("{{ messages }}"), "{{ messages }}");
  const auto path = qlora::test::fresh_folder("templates") / "own.jinja";
  write_text(path, "own");
  EXPECT_EQ(source(path.string()), "own");
  EXPECT_EQ(message_of([&] { source("chatlm"); }),
            "data.chat_template: 'chatlm' is neither a file nor a chat template's name; expected "
            "chatml, llama-2, llama-3, llama-3.1, mistral, qwen, qwen-3, gemma, phi-3, exaone-3.5, "
            "exaone-4, or Jinja itself");
}

// Calls end with a special token of their own, and what precedes an answer is written in another
// way once the conversation goes on.
TEST(LabelOptions, ACallIsLearnedWholeWhereNoStartOfTheTextIsAlike) {
  const FakeTokenizer tokenizer(
      "{{ messages | length }}"
      "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content }}"
      "{% for c in m.tool_calls or [] %}<call>{{ c.function.name }}</call>{% endfor %}"
      "{{ '<|im_end|>\n' }}{% endfor %}"
      "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n' }}{% endif %}",
      /*definition=*/0, {"<call>", "</call>"});
  const Json messages = parse_json(R"([{"role": "user", "content": "q"},
      {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f"}}]},
      {"role": "tool", "content": "1"}, {"role": "assistant", "content": "a"}])",
                                   "test");
  EXPECT_EQ(marked(Labeller(tokenizer).label(Conversation{messages, nullptr, 0})),
            "4<|im_start|>user\nq<|im_end|>\n"
            "<|im_start|>assistant\n⟦<call>f</call><|im_end|>⟧\n"
            "<|im_start|>tool\n1<|im_end|>\n"
            "<|im_start|>assistant\n⟦a<|im_end|>⟧\n");
}

TEST(LabelOptions, CallsThatTheTemplateLeavesOutAreNoticedAndNotLearned) {
  const FakeTokenizer tokenizer(kShort);
  Json messages = kDialogue;
  messages[1]["tool_calls"] = parse_json(R"([{"function": {"name": "f"}}])", "test");
  const auto label = [&] { return Labeller(tokenizer).label(Conversation{messages, nullptr, 0}); };
  EXPECT_FALSE(label().calls_written);
  EXPECT_EQ(marked(label()), "ua</s>a⟦b</s>⟧uc</s>a⟦d</s>⟧");
  messages[1]["content"] = "";
  EXPECT_EQ(marked(label()), "ua</s>a</s>uc</s>a⟦d</s>⟧");
}

}  // namespace
}  // namespace qlora::data
