// Broken templates and files end with an Error or with a sound result. A short run of each; for
// longer ones see support/mutations.h.

#include "data/encode_sample.h"
#include "data_module/fake_tokenizer.h"
#include "qlora/base/file.h"
#include "qlora/data/dataset.h"
#include "support/mutations.h"
#include "support/test_data.h"

#include <gtest/gtest.h>

#include <sstream>

namespace qlora::data {
namespace {

using qlora::test::Mutations;
using test::FakeTokenizer;

std::vector<std::string> lines_of(const std::string& text) {
  std::istringstream stream(text);
  std::vector<std::string> lines;
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

// A line each; bytes that are no UTF-8 come by other mutations.
constexpr char kTemplateWords[] = R"({%
%}
{{
}}
{#
-
|
(
)
[1:
[::-1]
'
"
\
 ~
 * 9999999
 ** 99
 // 0
9223372036854775807
1e999
 if
 else
 is
 in
none
loop
loop.cycle(1)
messages
message.content
tools | tojson(indent=4)
range(99999)
raise_exception('x')
strftime_now('%Y')
{% set ns.turns = ns %}
{% for x in messages %}
{% endfor %}
{% if messages %}
{% endif %}
{% break %}
{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}
{% macro f(x) %}{{ x }}{{ varargs }}{{ kwargs }}{{ caller(1) }}{% endmacro %}
{% call(x) f(1, 2, k=3) %}{{ x }}
{% endcall %}
 recursive
{{ loop(messages) }}
loop.changed(1)
'%s-%5d' % 1
{% generation %}
{% endgeneration %}
 | list
 | sort
 | map('upper')
 | join(',')
 | groupby('role')
 | batch(2)
 | slice(3, 0)
 | truncate(3)
 | urlencode
 | replace('a', messages)
 | items
.split('')
.rsplit(' ', 1)
.center(9)
.strip()
.items())";

constexpr char kFileWords[] = R"({
}
[
]
[[[[[[[[[[
"
\
\u0000
\ud800
:
,
null
1e999
-0
99999999999999999999
""
"""
messages
role
content
tool_calls
"weight": 2
"history": [
"system": 1
"instruction": 1
"output": null
"value": []
"tools": "["
PAR1)";

Mutations broken_templates() {
  std::vector<std::string> templates;
  for (const char* name : {"chatml", "llama-2", "llama-3", "llama-3.1", "mistral", "qwen", "qwen-3",
                           "gemma", "phi-3", "exaone-3.5", "exaone-4"}) {
    templates.push_back(text::find_chat_template(name, "test"));
  }
  return Mutations(std::move(templates), lines_of(kTemplateWords));
}

// What any text with labels must be for encode_sample.
void expect_sound(const LabelledText& labelled) {
  std::size_t done = 0;
  for (const text::TextRange range : labelled.learned) {
    ASSERT_LE(done, range.begin);
    ASSERT_LE(range.begin, range.end);
    done = range.end;
  }
  ASSERT_LE(done, labelled.rendered.text.size());
}

TEST(Fuzz, BrokenChatTemplates) {
  const Json dialogues = read_json(qlora::test::golden_path("chat/chat.json")).at("dialogues");
  std::vector<Conversation> conversations;
  for (const Json& dialogue : dialogues) {
    conversations.push_back({dialogue.at("messages"), dialogue.at("tools"), 0});
  }
  const Mutations templates = broken_templates();
  qlora::test::fuzz(300, [&](std::uint64_t number) {
    const FakeTokenizer tokenizer(templates.make(number));
    LabelOptions options;
    options.train_on_eos = number % 2 == 0 ? TrainOnEos::Turn : TrainOnEos::All;
    const Labeller labeller(tokenizer, options);
    const LabelledText labelled = labeller.label(conversations[number % conversations.size()]);
    expect_sound(labelled);
    const Sample sample = encode_sample(tokenizer, labelled);
    EXPECT_EQ(sample.ids.size(), sample.labels.size());
  });
}

// A few rows of a real file, whole where it is small.
std::string start_of(const std::filesystem::path& path) {
  const std::string text = read_text(path);
  return text.substr(0, std::min(text.size(), text.find('\n', 4096)));
}

struct FileCorpus {
  const char* name;  // with the ending that tells the kind
  std::vector<std::filesystem::path> files;
};

std::vector<FileCorpus> file_corpora() {
  const auto real = [](const char* name) { return qlora::test::data_path(name); };
  const auto small = [](const char* name) {
    return qlora::test::golden_path(std::string("data_files/") + name);
  };
  return {{"a.json",
           {real("instruct/alpaca_en_demo.json"), real("instruct/glaive_toolcall_en_demo.json")}},
          {"a.jsonl",
           {real("instruct/v1_sft_demo.jsonl"), real("instruct/openai_toy_chat.jsonl"),
            real("instruct/kullm_252_ko.jsonl"), real("instruct/gsm8k_test.jsonl")}},
          {"a.csv", {real("instruct/songys_chatbot_ko.csv")}},
          {"a.tsv", {real("classify/nsmc_test.tsv")}},
          {"a.txt", {real("corpora/tinyshakespeare.txt")}},
          {"a.jsonl.gz", {small("rows.jsonl.gz"), small("members.jsonl.gz")}},
          {"a.jsonl.zst", {small("rows.jsonl.zst"), small("frames.jsonl.zst")}},
          {"a.parquet", {small("rows.parquet")}}};
}

TEST(Fuzz, BrokenFiles) {
  QLORA_REQUIRE_DATA(qlora::test::data_path("instruct"));
  std::vector<std::string> words = lines_of(kFileWords);
  words.insert(words.end(), {"\n", "\r\n", "\t", "\xff", "\xed\xa0\x80", std::string(1, '\0'),
                             "\xef\xbb\xbf", "\x28\xb5\x2f\xfd", "\x1f\x8b"});
  std::vector<std::pair<std::string, Mutations>> corpora;
  for (const FileCorpus& corpus : file_corpora()) {
    std::vector<std::string> inputs;
    for (const auto& file : corpus.files) inputs.push_back(start_of(file));
    corpora.emplace_back(corpus.name, Mutations(std::move(inputs), words));
  }
  const FakeTokenizer tokenizer;
  qlora::test::fuzz(400, [&](std::uint64_t number) {
    const auto& [name, mutations] = corpora[number % corpora.size()];
    const auto path = qlora::test::fresh_folder("fuzz") / name;
    write_text(path, mutations.make(number));
    DataConfig config;
    config.train = {{.path = path.string()}};
    config.on_error = number % 3 == 0 ? OnError::Stop : OnError::Skip;
    EXPECT_FALSE(load_dataset(config, tokenizer, 0).train.empty());
  });
}

}  // namespace
}  // namespace qlora::data
