#pragma once
// Fills a SampleStore.

#include "qlora/data/sample_store.h"

#include <cstddef>
#include <vector>

namespace qlora::data {

class SampleWriter {
 public:
  SampleWriter();
  ~SampleWriter();
  SampleWriter(const SampleWriter&) = delete;
  SampleWriter& operator=(const SampleWriter&) = delete;

  // Throws Error where the temporary file cannot be made or written.
  void append(const Sample& sample);
  std::int64_t size() const { return store_.size(); }
  // What was appended; the writer is then empty.
  SampleStore finish();

 private:
  void flush();

  std::shared_ptr<SampleFile> file_;
  SampleStore store_;
  std::vector<std::byte> buffer_;
  std::int64_t offset_ = 0;  // behind what was appended, bytes
};

}  // namespace qlora::data
