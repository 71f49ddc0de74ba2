#include "qlora/data/preview.h"
#include "data_module/fake_tokenizer.h"

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
  const std::string table = preview_stats(dataset);
  const auto has = [&table](const char* text) { return table.find(text) != std::string::npos; };
  EXPECT_TRUE(has("data/*.jsonl (2 files, format messages)\n")) << table;
  EXPECT_TRUE(has("  dropped: no answer                           2\n")) << table;
  EXPECT_TRUE(
      has("  skipped: not UTF-8 text                      3\n"
          "    the first: data/b.jsonl:4:1: a NUL byte\n"))
      << table;
  EXPECT_TRUE(has("  held out for evaluation                      1\n")) << table;
  EXPECT_TRUE(has("  samples an epoch, by data.weights            6\n")) << table;
  EXPECT_FALSE(has("answer cut off")) << table;
}

}  // namespace
}  // namespace qlora::data
