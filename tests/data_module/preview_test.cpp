#include "qlora/data/preview.h"
#include "data_module/fake_tokenizer.h"
#include "qlora/base/file.h"
#include "qlora/base/json.h"
#include "support/test_data.h"

#include <gtest/gtest.h>

namespace qlora::data {
namespace {

using test::FakeTokenizer;

// "Q", an escape character and a line end; learned: "A" and EOS; a line end.
Sample short_sample() {
  constexpr auto kNo = static_cast<std::int32_t>(kNotLearned);
  constexpr std::int32_t kEos = FakeTokenizer::kEos;
  return {{'Q', 0x1B, '\n', 'A', kEos, '\n'}, {kNo, kNo, kNo, 'A', kEos, kNo}, 4, 0, 9};
}

std::string preview(const PreviewStyle& style) {
  const SampleStore samples(std::vector{short_sample(), short_sample()});
  const std::string files[] = {"a.jsonl"};
  return preview_samples(samples, files, FakeTokenizer(), style);
}

TEST(Preview, MarksWhatIsLearned) {
  EXPECT_EQ(preview({.max_samples = 1}),
            "--- a.jsonl:9: 6 tokens, 2 learned ---\nQ\\x1b\n«A</s>»\n\n");
  EXPECT_EQ(preview({.colour = true, .max_samples = 1}),
            "--- a.jsonl:9: 6 tokens, 2 learned ---\nQ\\x1b\n\033[32mA</s>\033[0m\n\n");
}

TEST(Preview, ShowsNoMoreThanThereAre) {
  const std::string one = preview({.max_samples = 1});
  EXPECT_EQ(preview({.max_samples = 5}), one + one);
}

TEST(Preview, CountsWhatItLeavesOut) {
  EXPECT_EQ(preview({.max_tokens = 4, .max_samples = 1}),
            "--- a.jsonl:9: 6 tokens, 2 learned ---\nQ\\x1b\n«A» ... (2 more tokens)\n");
}

TEST(Preview, TablesTheCounts) {
  Dataset dataset;
  dataset.sources = {{.name = "data/*.jsonl",
                      .formats = "messages",
                      .files = 2,
                      .rows = 9,
                      .samples = 4,
                      .no_answer = 2,
                      .held_out = 1,
                      .per_epoch = 6,
                      .skipped = {{"not UTF-8 text", 3, "data/b.jsonl:4:1: a NUL byte"}}}};
  const SourceFindings findings{.duplicates = 3, .special_tokens = {{FakeTokenizer::kEnd, 8, 4}}};
  const std::string table = preview_stats(dataset, {&findings, 1}, FakeTokenizer());
  const auto has = [&table](const char* text) { return table.find(text) != std::string::npos; };
  EXPECT_TRUE(has("data/*.jsonl (2 files, format messages)\n")) << table;
  EXPECT_TRUE(has("  dropped: no answer                           2\n")) << table;
  EXPECT_TRUE(
      has("  skipped: not UTF-8 text                      3\n"
          "    the first: data/b.jsonl:4:1: a NUL byte\n"))
      << table;
  EXPECT_TRUE(has("  held out for evaluation                      1\n")) << table;
  EXPECT_TRUE(has("  samples an epoch, by the weight              6\n")) << table;
  EXPECT_TRUE(has("  duplicates of earlier samples                3\n")) << table;
  EXPECT_TRUE(
      has("  special tokens, whose embeddings stay as they are:\n"
          "    <|im_end|>                                 8, 4 learned\n"))
      << table;
  EXPECT_FALSE(has("answer cut off")) << table;
}

// Two sources, the second one twice an epoch, and a validation file.
class PreviewOfFiles : public testing::Test {
 protected:
  PreviewOfFiles() {
    const auto folder = qlora::test::fresh_folder("preview");
    write_text(folder / "a.jsonl", R"({"prompt": "q", "completion": "a"})"
                                   "\n"
                                   R"({"prompt": "r", "completion": "<|im_start|>"})"
                                   "\n");
    write_text(folder / "b.jsonl", R"({"prompt": "q", "completion": "a"})");
    config_.train = {{.path = (folder / "a.jsonl").string()},
                     {.path = (folder / "b.jsonl").string(), .weight = 2}};
    config_.validation = {{.path = (folder / "b.jsonl").string()}};
    dataset_ = load_dataset(config_, tokenizer_, 0);
  }

  FakeTokenizer tokenizer_;
  DataConfig config_;
  Dataset dataset_;
};

TEST_F(PreviewOfFiles, FindsDuplicatesAndSpecialTokens) {
  ASSERT_EQ(dataset_.train.size(), 4);
  const auto findings =
      examine(dataset_.sources, {&dataset_.train, &dataset_.validation}, tokenizer_);
  ASSERT_EQ(findings.size(), 3u);
  EXPECT_EQ(findings[0].duplicates, 0);
  EXPECT_EQ(findings[1].duplicates, 1);  // the copy by weight is none
  EXPECT_EQ(findings[2].duplicates, 1);
  std::string uses;
  for (const SpecialTokenUse& use : findings[0].special_tokens) {
    uses += fmt::format("{} {}x, {}; ", tokenizer_.token_bytes(use.id), use.times, use.learned);
  }
  EXPECT_EQ(uses, "<s> 2x, 0; </s> 2x, 2; <|im_start|> 1x, 1; ");
}

TEST_F(PreviewOfFiles, WritesEverySampleOnceForPrograms) {
  const auto path = qlora::test::fresh_folder("preview_json") / "check.json";
  write_preview_json(dataset_, {&dataset_.train, &dataset_.validation}, tokenizer_, path);
  const Json json = read_json(path);
  ASSERT_EQ(json.at("sources").size(), 3u);
  EXPECT_EQ(json.at("sources")[1].at("per_epoch"), 2);
  EXPECT_EQ(json.at("sources")[1].at("duplicates"), 1);
  EXPECT_EQ(json.at("sources")[0].at("special_tokens")[2].at("token"), "<|im_start|>");
  ASSERT_EQ(json.at("samples").size(), 4u);
  EXPECT_EQ(json.at("samples")[1], (Json{{"split", "train"},
                                         {"source", config_.train[0].path},
                                         {"file", dataset_.files[0]},
                                         {"row", 2},
                                         {"input_ids", {256, 'r', 259, 257}},
                                         {"labels", {-100, -100, 259, 257}},
                                         {"text", "<s>r<|im_start|></s>"}}));
  EXPECT_EQ(json.at("samples")[3].at("split"), "validation");
}

}  // namespace
}  // namespace qlora::data
