#pragma once
// The files that data.train and data.validation mean.

#include "data/prompt_template.h"
#include "qlora/data/data_config.h"

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace qlora::data {

// One entry: a file, a directory (with all data files below it), or a pattern with *, ? or [...];
// and how its rows are read.
struct DataSource {
  std::string name;  // as written
  std::vector<std::filesystem::path> files;
  DataFormat format = DataFormat::Auto;
  std::string prompt_text;  // what `prompt` was made of
  std::optional<PromptTemplate> prompt;
};

// The sources in their order, the files of each sorted by name; what an entry does not say is as
// `config` has it. `key` names the setting in errors. Throws Error for an entry without data files
// or with a template that is none, and for a directory whose files are of several kinds or splits
// (train, test ...), as one of them was hardly meant.
std::vector<DataSource> find_sources(const std::vector<SourceConfig>& entries,
                                     const DataConfig& config, std::string_view key);

}  // namespace qlora::data
