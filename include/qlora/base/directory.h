#pragma once
// Walking and removing directories. std::filesystem's iterators and remove_all are not used (the
// style check refuses them): LibTorch's libraries export those of an older libstdc++, and programs
// that mix both crash. Its paths and single-file functions have one layout in all of them.

#include <filesystem>
#include <vector>

namespace qlora {

// Paths of what lies in a directory, sorted; throws Error where it cannot be read.
std::vector<std::filesystem::path> directory_entries(const std::filesystem::path& directory);

// Paths of the regular files below a directory, sorted; links are not followed. Throws Error.
std::vector<std::filesystem::path> files_below(const std::filesystem::path& directory);

// Removes a directory with what is in it, or a file; links are removed, not followed. False where
// something stays behind; true where nothing was there.
bool remove_tree(const std::filesystem::path& path) noexcept;

}  // namespace qlora
