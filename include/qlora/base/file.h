#pragma once
// Files: read-only maps, whole texts, and writes that either happen completely or not at all.

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace qlora {

// A read-only map of a whole file. The bytes stay valid while the object lives.
class MappedFile {
 public:
  // Throws Error where the file is missing, not a regular file or unreadable.
  explicit MappedFile(std::filesystem::path path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&&) = delete;

  std::span<const std::byte> bytes() const { return bytes_; }
  const std::filesystem::path& path() const { return path_; }
  // Tells the kernel that the pages of this part are not needed again.
  void drop(std::span<const std::byte> part) const;

 private:
  std::filesystem::path path_;
  std::span<const std::byte> bytes_;
};

// The whole file as text; throws Error where it is missing or unreadable.
std::string read_text(const std::filesystem::path& path);

// A file that appears under its name only when commit() returns: written beside, synced, renamed.
// Without commit() nothing is left behind.
class AtomicFile {
 public:
  // Throws Error where the folder is missing or not writable.
  explicit AtomicFile(std::filesystem::path path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  // Throws Error (a full disk, say).
  void write(std::span<const std::byte> bytes);
  void write(std::string_view text);
  void commit();

 private:
  std::filesystem::path path_;
  std::filesystem::path temporary_;
  int descriptor_ = -1;
};

// Writes a whole text through AtomicFile.
void write_text(const std::filesystem::path& path, std::string_view text);

// A directory that appears under its name only when commit() returns. Fill path() meanwhile.
// An existing directory of that name is replaced as a whole. Without commit() nothing is left.
class AtomicDirectory {
 public:
  explicit AtomicDirectory(std::filesystem::path target);
  ~AtomicDirectory();
  AtomicDirectory(const AtomicDirectory&) = delete;
  AtomicDirectory& operator=(const AtomicDirectory&) = delete;

  // Where to write until commit().
  const std::filesystem::path& path() const { return temporary_; }
  // Syncs every file, then renames. Throws Error.
  void commit();

 private:
  std::filesystem::path target_;
  std::filesystem::path temporary_;
  bool committed_ = false;
};

}  // namespace qlora
