#pragma once
// Fills a SampleStore.

#include "data/sample_file.h"
#include "qlora/data/sample_store.h"

#include <cstddef>
#include <filesystem>
#include <memory>
#include <string_view>
#include <vector>

namespace qlora::data {

class SampleWriter {
 public:
  // Null: a temporary file of its own.
  explicit SampleWriter(std::shared_ptr<SampleFile> file = nullptr) : file_(std::move(file)) {}
  SampleWriter(const SampleWriter&) = delete;
  SampleWriter& operator=(const SampleWriter&) = delete;

  // Throws Error where the file cannot be made or written.
  void append(const Sample& sample);
  std::int64_t size() const { return store_.size(); }
  // What was appended; the writer is then empty.
  SampleStore finish();
  // The same, and keeps the file, which SampleFile::to_be_kept made, under this name with `text`
  // behind the samples (kept_samples.h).
  SampleStore finish_as(const std::filesystem::path& path, std::string_view text);

 private:
  void flush();

  std::shared_ptr<SampleFile> file_;
  SampleStore store_;
  std::vector<std::byte> buffer_;
  std::int64_t offset_ = 0;  // behind what was appended, bytes
};

}  // namespace qlora::data
