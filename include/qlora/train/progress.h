#pragma once
// What a run tells while it works: a bar on a terminal, plain lines elsewhere, and metrics.jsonl.

#include "qlora/base/json.h"

#include <cstdint>
#include <filesystem>

namespace qlora::train {

struct StepReport {
  std::int64_t step = 0;  // updates done
  std::int64_t max_steps = 0;
  double epoch = 0;
  double loss = 0;  // mean per labelled token since the last report
  double learning_rate = 0;
  double gradient_norm = 0;  // before clipping
  double tokens_per_second = 0;
  double data_wait_seconds = 0;   // for batches, since the last report
  std::int64_t memory_bytes = 0;  // peak so far
  double seconds_left = 0;
};

Json to_json(const StepReport& report);

// One JSON object a line. Lines of steps after `resumed_at` (of a run that went further before it
// was resumed) are dropped when the log is opened.
class MetricsLog {
 public:
  MetricsLog(std::filesystem::path path, std::int64_t resumed_at);
  // Appends and flushes. Throws Error.
  void write(const Json& line);

 private:
  std::filesystem::path path_;
};

// Standard error: a line that is redrawn on a terminal, one line per logged report elsewhere.
class Progress {
 public:
  Progress();
  // Every step; draws on a terminal only.
  void draw(const StepReport& report);
  // Every logged step.
  void log(const StepReport& report);
  // Ends the redrawn line, so that a message can follow.
  void finish_line();

 private:
  bool terminal_;
  bool line_open_ = false;
};

}  // namespace qlora::train
