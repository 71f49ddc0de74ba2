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
  Dataset dataset;
  dataset.train = SampleStore(std::vector{short_sample(), short_sample()});
  dataset.files = {{.path = "a.jsonl"}};
  return preview_samples(dataset, FakeTokenizer(), style);
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
  const Sample sample = short_sample();
  dataset.train = SampleStore(std::vector{sample, sample, sample});
  dataset.validation = SampleStore(std::span(&sample, 1));
  dataset.files = {
      {.path = "a.jsonl", .format = "messages", .rows = 6, .samples = 4, .no_answer = 2}};
  const std::string table = preview_stats(dataset);
  EXPECT_NE(table.find("a.jsonl (format messages)\n"), std::string::npos) << table;
  EXPECT_NE(table.find("dropped: no answer                           2\n"), std::string::npos)
      << table;
  EXPECT_EQ(table.find("dropped: answer cut off"), std::string::npos) << table;
  EXPECT_NE(table.find("held out for evaluation: 1 of 4 samples\n"), std::string::npos) << table;
}

}  // namespace
}  // namespace qlora::data
