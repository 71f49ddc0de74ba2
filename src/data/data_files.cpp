#include "data/data_files.h"

#include "data/row_reader.h"
#include "qlora/base/directory.h"
#include "qlora/base/text_util.h"

#include <glob.h>

#include <array>
#include <cctype>
#include <map>
#include <utility>

namespace qlora::data {
namespace fs = std::filesystem;
namespace {

// Folders within folders; a link to a folder above must come to an end.
constexpr int kMaxDepth = 16;

// Links are followed: Hugging Face's cache is made of them.
void add_data_files(const fs::path& directory, int depth, std::vector<fs::path>& files) {
  if (depth == kMaxDepth) fail("{}: folders are nested too deeply", directory.string());
  for (const fs::path& entry : directory_entries(directory)) {
    if (entry.filename().string().starts_with('.')) continue;
    if (fs::is_directory(entry)) {
      add_data_files(entry, depth + 1, files);
    } else if (file_kind(entry)) {
      files.push_back(entry);
    }
  }
}

// The split that a file's name says, as Hugging Face's loaders read it: a word of its own.
std::string_view split_of(const fs::path& path) {
  using Word = std::pair<std::string_view, std::string_view>;
  constexpr std::array<Word, 12> kWords{{{"train", "train"},
                                         {"training", "train"},
                                         {"validation", "validation"},
                                         {"valid", "validation"},
                                         {"val", "validation"},
                                         {"dev", "validation"},
                                         {"heldout", "validation"},
                                         {"test", "test"},
                                         {"testing", "test"},
                                         {"eval", "test"},
                                         {"evaluation", "test"},
                                         {"holdout", "test"}}};
  std::string word;
  for (const char c : path.filename().string() + ".") {
    if (std::isalpha(static_cast<unsigned char>(c)) != 0) {
      word += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
      continue;
    }
    for (const auto& [name, split] : kWords) {
      if (word == name) return split;
    }
    word.clear();
  }
  return "";
}

// Fails where the files of a directory fall into several groups.
template <class Group>
void expect_one_group(const fs::path& directory, const std::map<Group, fs::path>& groups,
                      std::string_view what) {
  if (groups.size() < 2) return;
  std::vector<std::string> examples;
  for (const auto& [group, example] : groups) examples.push_back(example.filename().string());
  fail("{}: holds files of several {} ({}); name those that you mean, by a pattern or a list",
       directory.string(), what, join(examples));
}

std::vector<fs::path> files_of_directory(const fs::path& directory) {
  std::vector<fs::path> files;
  add_data_files(directory, 0, files);
  std::map<FileKind, fs::path> kinds;
  std::map<std::string_view, fs::path> splits;
  for (const fs::path& file : files) {
    kinds.emplace(*file_kind(file), file);
    if (const std::string_view split = split_of(file); !split.empty()) splits.emplace(split, file);
  }
  expect_one_group(directory, kinds, "kinds");
  expect_one_group(directory, splits, "splits");
  return files;
}

std::vector<fs::path> matches_of(const std::string& pattern) {
  glob_t found{};
  std::vector<fs::path> paths;
  if (::glob(pattern.c_str(), GLOB_BRACE, nullptr, &found) == 0) {
    paths.assign(found.gl_pathv, found.gl_pathv + found.gl_pathc);
  }
  ::globfree(&found);
  return paths;
}

std::vector<fs::path> find_files(const std::string& entry, std::string_view key) {
  std::vector<fs::path> found;
  std::vector<fs::path> paths{entry};
  if (!fs::exists(entry) && entry.find_first_of("*?[{") != std::string::npos) {
    paths = matches_of(entry);
    if (paths.empty()) fail("{}: no file fits the pattern '{}'", key, entry);
  }
  for (const fs::path& path : paths) {
    if (!fs::is_directory(path)) {
      found.push_back(path);
      continue;
    }
    const std::vector<fs::path> files = files_of_directory(path);
    found.insert(found.end(), files.begin(), files.end());
  }
  if (found.empty()) {
    fail("{}: the directory {} holds no data files; expected {}", key, entry, kDataFileEndings);
  }
  return found;
}

// The template of the entry itself, which may be empty so that there is none, or that of all.
void find_template(const SourceConfig& entry, const DataConfig& config, const std::string& key,
                   DataSource& source) {
  const bool own = entry.prompt_template.has_value();
  const std::optional<std::string>& text = own ? entry.prompt_template : config.prompt_template;
  if (!text || (own && text->empty())) return;
  source.prompt_text = *text;
  source.prompt = PromptTemplate::parse(*text, own ? key + ".template" : "data.template");
}

}  // namespace

std::vector<DataSource> find_sources(const std::vector<SourceConfig>& entries,
                                     const DataConfig& config, std::string_view key) {
  std::vector<DataSource> sources;
  for (const SourceConfig& entry : entries) {
    DataSource source{.name = entry.path, .files = find_files(entry.path, key)};
    source.format = entry.format.value_or(config.format);
    find_template(entry, config, fmt::format("{}[{}]", key, sources.size()), source);
    sources.push_back(std::move(source));
  }
  return sources;
}

}  // namespace qlora::data
