#include "qlora/train/progress.h"

#include "qlora/base/file.h"
#include "qlora/base/log.h"
#include "qlora/base/text_util.h"

#include <unistd.h>

#include <cstdio>
#include <fstream>

namespace qlora::train {
namespace {

constexpr int kBarWidth = 24;

std::string clock_text(double seconds) {
  const auto whole = static_cast<std::int64_t>(seconds);
  return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
}

std::string bar(const StepReport& r) {
  const auto filled = static_cast<int>(kBarWidth * r.step / r.max_steps);
  return fmt::format("{:#>{}}{:.>{}}", "", filled, "", kBarWidth - filled);
}

std::string figures(const StepReport& r) {
  return fmt::format(
      "step {}/{}  epoch {:.2f}  loss {:.4f}  lr {:.2e}  grad_norm {:.3f}  {:.0f} tok/s  {}  left "
      "{}",
      r.step, r.max_steps, r.epoch, r.loss, r.learning_rate, r.gradient_norm, r.tokens_per_second,
      human_bytes(r.memory_bytes), clock_text(r.seconds_left));
}

// The lines of a metrics file up to and including a step.
std::string lines_until(const std::filesystem::path& path, std::int64_t step) {
  std::ifstream file(path);
  std::string kept;
  for (std::string line; std::getline(file, line);) {
    // A line cut short by a crash does not parse and goes, too.
    const Json json = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (json.is_object() && json.value("step", step + 1) <= step) kept += line + "\n";
  }
  return kept;
}

}  // namespace

Json to_json(const StepReport& r) {
  return {{"step", r.step},
          {"epoch", r.epoch},
          {"loss", r.loss},
          {"learning_rate", r.learning_rate},
          {"grad_norm", r.gradient_norm},
          {"tokens_per_second", r.tokens_per_second},
          {"data_wait_seconds", r.data_wait_seconds},
          {"memory_bytes", r.memory_bytes}};
}

MetricsLog::MetricsLog(std::filesystem::path path, std::int64_t resumed_at)
    : path_(std::move(path)) {
  write_text(path_, resumed_at > 0 ? lines_until(path_, resumed_at) : std::string());
}

void MetricsLog::write(const Json& line) {
  std::ofstream file(path_, std::ios::app);
  file << line.dump() << "\n" << std::flush;
  if (!file) fail("{}: cannot be written; is the disk full?", path_.string());
}

Progress::Progress() : terminal_(::isatty(STDERR_FILENO) == 1) {}

void Progress::draw(const StepReport& report) {
  if (!terminal_) return;
  fmt::print(stderr, "\r\033[K[{}] {}", bar(report), figures(report));
  std::fflush(stderr);
  line_open_ = true;
}

void Progress::log(const StepReport& report) {
  if (!terminal_) log::info("{}", figures(report));
}

void Progress::finish_line() {
  if (line_open_) fmt::print(stderr, "\n");
  line_open_ = false;
}

}  // namespace qlora::train
