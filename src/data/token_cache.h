#pragma once
// Tokenized sources on disk, shared by all runs that would get the same samples from them.

#include "data/data_files.h"
#include "data/sample_writer.h"
#include "qlora/data/dataset.h"

#include <cstddef>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace qlora::data {

// What reading a list of sources gives.
struct TokenizedSources {
  SampleStore samples;
  std::vector<std::string> files;
  std::vector<SourceStats> sources;
};

// The entry of one list of sources: a file named by the hash of all that its samples follow from,
// which are the bytes of the data, the tokenizer with its chat template, the settings, and the
// program. It appears whole or not at all, so that several runs may make it at the same time.
class TokenCache {
 public:
  // Reads the sources once to hash them, on all cores. `first_file`: files that the data set
  // already has (Sample::file counts them). Keeps nothing where data.cache_dir is empty, the
  // tokenizer has no definition_hash, or a file cannot be read.
  TokenCache(const DataConfig& config, const text::Tokenizer& tokenizer,
             const std::vector<DataSource>& sources, std::size_t first_file);

  std::optional<TokenizedSources> find() const;
  // Where to write samples that are to be kept; null: where SampleWriter does on its own.
  std::shared_ptr<SampleFile> make_file();
  // Ends `samples`, which write to the last make_file(), and keeps them. Throws Error where a file
  // of the data has changed since this object was made.
  SampleStore keep(SampleWriter& samples, std::span<const std::string> files,
                   std::span<const SourceStats> sources) const;

 private:
  struct FileState {
    std::filesystem::path path;
    std::uintmax_t size;
    std::filesystem::file_time_type written;
  };

  std::filesystem::path path_;  // empty: nothing is kept
  std::string key_;
  std::vector<FileState> files_;
};

// Where entries lie: data.cache_dir, else cache_directory(); empty where there is no such place.
std::filesystem::path cache_folder(const DataConfig& config);

}  // namespace qlora::data
