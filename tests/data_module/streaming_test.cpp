// The memory that a data set takes does not grow with its text. QLORA_LARGE_DATA_MIB makes the file
// larger than that of an ordinary run, QLORA_LARGE_DATA_TOKENIZER names a real tokenizer.

#include "data_module/fake_tokenizer.h"
#include "qlora/base/text_util.h"
#include "qlora/data/batch_plan.h"
#include "qlora/data/dataset.h"
#include "support/test_data.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <fstream>

namespace qlora::data {
namespace {

using test::FakeTokenizer;

constexpr std::int64_t kMiB = 1 << 20;

// A value of /proc/self/status in bytes.
std::int64_t status_bytes(const std::string& key) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(key + ":")) return std::stoll(line.substr(key.size() + 1)) * 1024;
  }
  return 0;
}

void reset_peak() { std::ofstream("/proc/self/clear_refs") << "5"; }

std::int64_t wanted_mib() {
  const char* const text = std::getenv("QLORA_LARGE_DATA_MIB");
  return text == nullptr ? 8 : std::stoll(text);
}

std::unique_ptr<text::Tokenizer> wanted_tokenizer() {
  const char* const path = std::getenv("QLORA_LARGE_DATA_TOKENIZER");
  if (path == nullptr) return std::make_unique<FakeTokenizer>();
  return text::load_tokenizer(path);
}

// Instructions of about 600 bytes; returns how many.
std::int64_t write_rows(const std::filesystem::path& path, std::int64_t mib) {
  std::ofstream file(path);
  std::int64_t rows = 0;
  for (std::int64_t bytes = 0; bytes < mib * kMiB; ++rows) {
    std::string words;
    for (std::int64_t k = 0; k < 60; ++k)
      words += fmt::format(" word{}", rows * 7919 * (k + 1) % 9973);
    const std::string line = fmt::format(
        "{{\"instruction\": \"Repeat number {}.\", \"output\": \"Here it is:{}\"}}\n", rows, words);
    file << line;
    bytes += std::ssize(line);
  }
  return rows;
}

TEST(Streaming, MemoryIsBounded) {
  const auto path = qlora::test::fresh_folder("streaming") / "large.jsonl";
  const std::int64_t mib = wanted_mib();
  const std::int64_t rows = write_rows(path, mib);
  const auto tokenizer = wanted_tokenizer();
  DataConfig config;
  config.train = {{.path = path.string()}};
  config.cache_dir = "";
  reset_peak();
  const std::int64_t before = status_bytes("VmRSS");
  const auto start = std::chrono::steady_clock::now();
  Dataset dataset = load_dataset(config, *tokenizer, 0);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  const std::int64_t loaded = status_bytes("VmHWM");
  ASSERT_EQ(dataset.train.size(), rows);
  const std::int64_t tokens = dataset.sources[0].tokens;
  const BatchPlan plan(std::move(dataset.train), {.batch_size = 8, .group_by_length = true});
  std::int64_t seen = 0;
  for (std::int64_t i = 0; i < plan.batches_per_epoch(); ++i) seen += plan.get(0, i).rows;
  EXPECT_EQ(seen, rows);
  const std::int64_t peak = status_bytes("VmHWM");
  // 16 MiB for a batch of rows and buffers; 16 bytes a sample and 8 for its place in the order,
  // and what the containers of these need.
  EXPECT_LT(peak - before, 16 * kMiB + 32 * rows);
  if (mib > 1024) {
    fmt::print(
        "{} MiB, {} rows, {} tokens in {:.0f} s: peak memory {} after loading, {} after an "
        "epoch; {} before\n",
        mib, rows, tokens, seconds.count(), human_bytes(loaded), human_bytes(peak),
        human_bytes(before));
  }
}

}  // namespace
}  // namespace qlora::data
