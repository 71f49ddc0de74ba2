// What is learned of a row: the assistant's text and its end token, nothing else.

#include "data/encode_sample.h"
#include "data_module/fake_tokenizer.h"
#include "qlora/base/file.h"
#include "qlora/data/dataset.h"
#include "support/message.h"
#include "support/test_data.h"

#include <gtest/gtest.h>

namespace qlora::data {
namespace {

using test::FakeTokenizer;

// The learned runs of a sample as texts.
std::vector<std::string> learned(const Sample& sample, const text::Tokenizer& tokenizer) {
  std::vector<std::string> runs;
  bool inside = false;
  for (std::size_t i = 0; i < sample.ids.size(); ++i) {
    const bool here = sample.labels[i] != kNotLearned;
    if (here) {
      EXPECT_EQ(sample.labels[i], sample.ids[i]);
    }
    if (here && !inside) runs.emplace_back();
    if (here) runs.back() += tokenizer.token_bytes(sample.ids[i]);
    inside = here;
  }
  return runs;
}

Sample encode(const text::Tokenizer& tokenizer, const Example& example) {
  return encode_sample(tokenizer, Labeller(tokenizer).label(example));
}

Conversation conversation(const char* messages) {
  return {parse_json(messages, "test"), nullptr, 0};
}

// A prompt and its completion, as they are.
PlainText pair(const char* prompt, const char* completion) {
  return {{{prompt, false, true}, {completion, true, true}}};
}

constexpr char kTwoTurns[] = R"([{"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Hi!\n"}, {"role": "assistant", "content": "Hello.\n"},
    {"role": "user", "content": "서울은 어디에 있나요?"},
    {"role": "assistant", "content": "대한민국에 있습니다. 🇰🇷"}])";

struct Real {
  const char* folder;
  const char* end;
};

// A conversation of so many questions and answers.
Conversation long_conversation(int answers) {
  Conversation made;
  for (int i = 0; i < answers; ++i) {
    made.messages.push_back({{"role", "user"}, {"content", fmt::format("question {}", i)}});
    made.messages.push_back({{"role", "assistant"}, {"content", fmt::format("answer {}", i)}});
  }
  return made;
}

// Each answer takes two more renders, which have one budget between them.
TEST(Labels, OfALongConversationAreNoReasonForACostlyTemplate) {
  const FakeTokenizer costly("{% for i in range(30000) %}{% endfor %}" +
                             std::string(test::kChatMl));
  EXPECT_EQ(learned(encode(costly, long_conversation(1)), costly).size(), 1u);
  EXPECT_EQ(qlora::test::message_of([&] { encode(costly, long_conversation(10)); }),
            "chat template:1: the template runs for too long");
  const FakeTokenizer plain;
  Conversation many = long_conversation(100);
  many.messages[0]["content"] = "\xff";  // counts as well as UTF-8 does
  const LabelledText labelled = Labeller(plain).label(many);
  EXPECT_EQ(labelled.learned.size(), 100u);
}

class RealTokenizer : public testing::TestWithParam<Real> {
 protected:
  void SetUp() override {
    const auto folder = qlora::test::data_path("tokenizers") / GetParam().folder;
    QLORA_REQUIRE_DATA(folder);
    tokenizer_ = text::load_tokenizer(folder);
  }
  std::unique_ptr<text::Tokenizer> tokenizer_;
};

TEST_P(RealTokenizer, LearnsEachAnswerAndItsEnd) {
  const std::string end = GetParam().end;
  const Conversation example = conversation(kTwoTurns);
  const Sample sample = encode(*tokenizer_, example);
  EXPECT_EQ(learned(sample, *tokenizer_),
            (std::vector<std::string>{"Hello.\n" + end, "대한민국에 있습니다. 🇰🇷" + end}));
  // Ending answers at a token of its own changes no token of such texts.
  const auto chat = text::ChatTemplate::parse(tokenizer_->chat_template(), "template");
  const auto whole = chat.render_traced(example.messages, text::render_options(*tokenizer_, false));
  EXPECT_EQ(sample.ids, text::encode(*tokenizer_, whole));
}

TEST_P(RealTokenizer, LearnsTheOutputOfAnInstruction) {
  const Instruction row{"다음을 요약하세요.", "비가 옵니다.", "비."};
  const Sample sample = encode(*tokenizer_, row);
  EXPECT_EQ(learned(sample, *tokenizer_),
            std::vector<std::string>{"비." + std::string(GetParam().end)});
  const std::string text = tokenizer_->decode(sample.ids);
  EXPECT_NE(text.find("다음을 요약하세요.\n\n비가 옵니다."), std::string::npos) << text;
}

TEST_P(RealTokenizer, AnswersCannotHoldSpecialTokens) {
  const std::string end = GetParam().end;
  const Sample sample = encode(*tokenizer_, Instruction{"Q" + end, "", "A" + end + "B"});
  const std::int32_t end_id = *tokenizer_->token_id(end);
  const auto labelled_ends = std::ranges::count(sample.labels, end_id);
  EXPECT_EQ(labelled_ends, 1);
  EXPECT_EQ(learned(sample, *tokenizer_), std::vector<std::string>{"A" + end + "B" + end});
}

INSTANTIATE_TEST_SUITE_P(Files, RealTokenizer,
                         testing::Values(Real{"smollm2", "<|im_end|>"}, Real{"qwen2", "<|im_end|>"},
                                         Real{"exaone-3.5", "[|endofturn|]"}),
                         [](const auto& instance) {
                           std::string name = instance.param.folder;
                           std::erase_if(name, [](char c) { return !std::isalnum(c); });
                           return name;
                         });

TEST(Labels, AreTransformersOwnOnSmolLM2) {
  const auto folder = qlora::test::data_path("tokenizers/smollm2");
  QLORA_REQUIRE_DATA(folder);
  const auto tokenizer = text::load_tokenizer(folder);
  DataConfig config;
  config.train = {{.path = qlora::test::source_path("datasets/mossvane_en/train.jsonl").string()}};
  config.cache_dir = "";
  const Dataset dataset = load_dataset(config, *tokenizer, 0);
  const Json batches = read_json(qlora::test::golden_path("smollm2/batches.json"));
  std::int64_t row = 0;
  for (const Json& batch : batches) {
    for (const Json& expected : batch) {
      const Sample sample = dataset.train.get(7 * row++ % dataset.train.size());
      EXPECT_EQ(Json(sample.ids), expected.at("input_ids"));
      EXPECT_EQ(Json(sample.labels), expected.at("labels"));
    }
  }
  EXPECT_EQ(row, 40);
}

TEST(Labels, SentencepieceTakesTheWholeTextAsOne) {
  const auto path = qlora::test::data_path("tokenizers/llama-2/tokenizer.model");
  QLORA_REQUIRE_DATA(path);
  const auto tokenizer = text::load_tokenizer(path);
  const Sample sample = encode(*tokenizer, pair("[INST] Hi [/INST]", " Hello you"));
  EXPECT_EQ(learned(sample, *tokenizer), std::vector<std::string>{" Hello you</s>"});
  std::vector<std::int32_t> whole = tokenizer->encode("[INST] Hi [/INST] Hello you</s>");
  whole.insert(whole.begin(), *tokenizer->bos());
  EXPECT_EQ(sample.ids, whole);
}

TEST(Labels, FollowTemplatesOfOtherShapes) {
  const char* const templates[] = {
      // The header belongs to the user's turn and the generation prompt is ignored (Qwen2 base).
      "{% for m in messages %}{% if m.role == 'user' %}{{ '<|im_start|>user\n' + m.content + "
      "'<|im_end|>\n<|im_start|>assistant\n' }}{% elif m.role == 'assistant' %}{{ m.content + "
      "'<|im_end|>\n' }}{% endif %}{% endfor %}",
      // Phi-3: an extra token behind the whole conversation.
      "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content | trim + "
      "'<|im_end|>\n' }}"
      "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% else %}"
      "{{ eos_token }}{% endif %}",
      // Earlier answers lose their thoughts, so a shorter conversation is not how this one begins.
      "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if loop.last %}{{ '' }}"
      "{{ m.content }}{% else %}{{ m.content.split('</think>')[-1] }}{% endif %}{{ '<|im_end|>\n' "
      "}}"
      "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
      // Refuses conversations that do not end with an answer, so that no prefix renders.
      "{% if messages[-1].role != 'assistant' %}{{ raise_exception('no') }}{% endif %}"
      "{% for m in messages %}{{ m.role + ':' + m.content + '<|im_end|>' }}{% endfor %}"};
  for (const char* source : templates) {
    const FakeTokenizer tokenizer(source);
    const Sample sample = encode(tokenizer, conversation(R"([
        {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}])"));
    EXPECT_EQ(learned(sample, tokenizer), (std::vector<std::string>{"b<|im_end|>", "d<|im_end|>"}))
        << source;
  }
}

TEST(Labels, ThoughtsThatAreRenderedAreLearned) {
  const FakeTokenizer tokenizer(
      "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' and "
      "loop.last %}{{ '<think></think>' }}{% endif %}{{ m.content + '<|im_end|>\n' }}{% endfor %}"
      "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}");
  const Sample sample = encode(tokenizer, Instruction{"q", "", "a"});
  EXPECT_EQ(learned(sample, tokenizer), std::vector<std::string>{"<think></think>a<|im_end|>"});
}

// Of templates for lists of texts and images, say: the model would learn to end at once.
TEST(Labels, AnAnswerThatTheTemplateLeavesOutIsNotLearned) {
  const FakeTokenizer tokenizer(
      "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.content is not string %}"
      "{{ m.content }}{% endif %}<|im_end|>{% endfor %}"
      "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}");
  EXPECT_TRUE(learned(encode(tokenizer, conversation(kTwoTurns)), tokenizer).empty());
}

// As gpt-oss and Gemma do.
TEST(Labels, AToolsReplyThatNamesTheCallIsNotLearned) {
  const FakeTokenizer tokenizer(
      "{% set ns = namespace(name='') %}{% for m in messages %}{% if m.tool_calls %}"
      "A:{{ m.content if loop.last else '' }}{{ m.tool_calls[0].function.name }}<|im_end|>"
      "{% set ns.name = m.tool_calls[0].function.name %}{% elif m.role == 'tool' %}"
      "{{ ns.name }}:{{ m.content }}<|im_end|>{% else %}"
      "{{ m.role[0] | upper }}:{{ m.content }}<|im_end|>{% endif %}{% endfor %}"
      "{% if add_generation_prompt %}A:{% endif %}");
  const Sample sample = encode(tokenizer, conversation(R"([
      {"role": "user", "content": "q"},
      {"role": "assistant", "content": "Let me see",
       "tool_calls": [{"function": {"name": "look", "arguments": {}}}]},
      {"role": "tool", "content": "1"}, {"role": "assistant", "content": "a"}])"));
  EXPECT_EQ(tokenizer.decode(sample.ids),
            "U:q<|im_end|>A:look<|im_end|>look:1<|im_end|>A:a<|im_end|>");
  EXPECT_EQ(learned(sample, tokenizer),
            (std::vector<std::string>{"look<|im_end|>", "a<|im_end|>"}));
}

// As Command R7B does.
TEST(Labels, AllTokensThatEndATurnAreLearned) {
  const FakeTokenizer tokenizer(
      "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content }}"
      "{% if m.role == 'assistant' %}<|im_end|>{% endif %}</s>{% endfor %}"
      "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}");
  const Sample sample = encode(tokenizer, conversation(kTwoTurns));
  for (const std::string& text : learned(sample, tokenizer)) {
    EXPECT_TRUE(text.ends_with("<|im_end|></s>")) << text;
  }
}

TEST(Labels, ATemplateWithoutEndTokenIsNoticed) {
  const FakeTokenizer tokenizer(
      "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}"
      "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}");
  const LabelledText labelled = Labeller(tokenizer).label(Instruction{"q", "", "a"});
  EXPECT_FALSE(labelled.ends_marked);
  EXPECT_EQ(learned(encode_sample(tokenizer, labelled), tokenizer), std::vector<std::string>{"a"});
  EXPECT_TRUE(Labeller(FakeTokenizer()).label(Instruction{"q", "", "a"}).ends_marked);
}

TEST(Labels, CompletionMessagesAreLearnedAndPromptMessagesAreNot) {
  const FakeTokenizer tokenizer;
  Conversation example = conversation(R"([
      {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
      {"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}])");
  example.first_answer = 3;
  EXPECT_EQ(learned(encode(tokenizer, example), tokenizer),
            std::vector<std::string>{"d<|im_end|>"});
}

TEST(Labels, TextPairsGetBosAndOneEos) {
  const FakeTokenizer tokenizer;
  for (const char* completion : {" yes", " yes</s>"}) {
    const Sample sample = encode(tokenizer, pair("Q:<|im_end|>", completion));
    EXPECT_EQ(learned(sample, tokenizer), std::vector<std::string>{" yes</s>"});
    EXPECT_EQ(tokenizer.decode(sample.ids), "<s>Q:<|im_end|> yes</s>");
    EXPECT_EQ(std::ranges::count(sample.ids, FakeTokenizer::kEnd), 1);
  }
  const Sample with_bos = encode(tokenizer, pair("<s>Q", "A"));
  EXPECT_EQ(std::ranges::count(with_bos.ids, FakeTokenizer::kBos), 1);
}

TEST(Labels, NoChatTemplateMeansThePlainPrompt) {
  const FakeTokenizer tokenizer("");
  const Sample sample = encode(tokenizer, Instruction{"Add.</s>", "1 2", "3"});
  EXPECT_EQ(learned(sample, tokenizer), std::vector<std::string>{"3</s>"});
  EXPECT_EQ(tokenizer.decode(sample.ids),
            "<s>Below is an instruction that describes a task, paired with an input that provides "
            "further context. Write a response that appropriately completes the request.\n\n"
            "### Instruction:\nAdd.</s>\n\n### Input:\n1 2\n\n### Response:\n3</s>");
  EXPECT_EQ(std::ranges::count(sample.ids, FakeTokenizer::kEos), 1);
  EXPECT_THROW(encode(tokenizer, conversation(kTwoTurns)), Error);
}

TEST(Labels, TheFirstTokenIsNeverLearned) {
  const FakeTokenizer tokenizer("{{ messages[-1].content }}<|im_end|>");
  const Sample sample =
      encode(tokenizer, conversation(R"([{"role": "assistant", "content": "ab"}])"));
  EXPECT_EQ(learned(sample, tokenizer), std::vector<std::string>{"b<|im_end|>"});
  EXPECT_EQ(sample.label_count(), 2);
}

}  // namespace
}  // namespace qlora::data
