#include "qlora/base/directory.h"

#include "qlora/base/error.h"

#include <dirent.h>
#include <ftw.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

namespace qlora {
namespace fs = std::filesystem;
namespace {

void add_files(const fs::path& directory, std::vector<fs::path>& files) {
  for (const fs::path& entry : directory_entries(directory)) {
    const fs::file_type type = fs::symlink_status(entry).type();
    if (type == fs::file_type::directory) add_files(entry, files);
    if (type == fs::file_type::regular) files.push_back(entry);
  }
}

int remove_entry(const char* path, const struct stat*, int, struct FTW*) {
  return std::remove(path);
}

}  // namespace

std::vector<fs::path> directory_entries(const fs::path& directory) {
  const std::unique_ptr<DIR, int (*)(DIR*)> stream(::opendir(directory.c_str()), &::closedir);
  if (stream == nullptr) fail("{}: cannot be read: {}", directory.string(), std::strerror(errno));
  std::vector<fs::path> entries;
  while (const dirent* entry = ::readdir(stream.get())) {
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") entries.push_back(directory / name);
  }
  std::sort(entries.begin(), entries.end());
  return entries;
}

std::vector<fs::path> files_below(const fs::path& directory) {
  std::vector<fs::path> files;
  add_files(directory, files);
  return files;
}

bool remove_tree(const fs::path& path) noexcept {
  constexpr int kOpenFolders = 16;
  return ::nftw(path.c_str(), remove_entry, kOpenFolders, FTW_DEPTH | FTW_PHYS) == 0 ||
         errno == ENOENT;
}

}  // namespace qlora
