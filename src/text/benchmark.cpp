#include "qlora/text/benchmark.h"

#include "qlora/base/error.h"
#include "qlora/base/file.h"
#include "qlora/base/json.h"
#include "qlora/text/tokenizer.h"

#include <algorithm>
#include <ctime>
#include <vector>

namespace qlora::text {
namespace {

std::vector<std::string_view> lines_of(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    if (end > 0) lines.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

}  // namespace

std::string benchmark_tokenizer(const TokenizerBenchmark& options) {
  const auto tokenizer = load_tokenizer(options.model);
  const std::string text = read_text(options.text);
  const std::vector<std::string_view> lines = lines_of(text);
  if (lines.empty()) fail("{}: no line in it; expected a text", options.text);
  std::vector<double> seconds;
  std::int64_t tokens = 0;
  for (std::int64_t pass = 0; pass < options.passes; ++pass) {
    const std::clock_t start = std::clock();
    tokens = 0;
    for (const std::string_view line : lines) tokens += std::ssize(tokenizer->encode(line));
    seconds.push_back(static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC);
  }
  const double first = seconds.front();
  std::sort(seconds.begin(), seconds.end());
  const double median = seconds[seconds.size() / 2];
  const auto count = static_cast<double>(tokens);
  return Json{{"model", options.model},
              {"text", options.text},
              {"lines", lines.size()},
              {"bytes", text.size()},
              {"tokens", tokens},
              {"tokens_per_second", count / median},
              {"tokens_per_second_at_first", count / first}}
      .dump(2);
}

}  // namespace qlora::text
