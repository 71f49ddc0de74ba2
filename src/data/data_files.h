#pragma once
// The files that data.train and data.validation mean.

#include "qlora/base/constraints.h"

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace qlora::data {

// One entry: a file, a directory (with all data files below it), or a pattern with *, ? or [...].
struct DataSource {
  std::string name;  // as written
  std::vector<std::filesystem::path> files;
};

// The sources in their order, the files of each sorted by name. `key` names the setting in errors.
// Throws Error for an entry without data files, and for a directory whose files are of several
// kinds or splits (train, test ...), as one of them was hardly meant.
std::vector<DataSource> find_sources(const StringOrList& entries, std::string_view key);

}  // namespace qlora::data
