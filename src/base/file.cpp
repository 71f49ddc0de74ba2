#include "qlora/base/file.h"

#include "qlora/base/directory.h"
#include "qlora/base/error.h"
#include "qlora/base/narrow.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <set>
#include <utility>

namespace qlora {
namespace fs = std::filesystem;
namespace {

std::string reason() { return std::strerror(errno); }

class Descriptor {
 public:
  Descriptor(const fs::path& path, int flags) : value_(::open(path.c_str(), flags | O_CLOEXEC)) {}
  ~Descriptor() {
    if (value_ >= 0) ::close(value_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return value_; }

 private:
  int value_;
};

// Makes a rename or a creation inside `folder` durable.
void sync_path(const fs::path& path) {
  const Descriptor descriptor(path, O_RDONLY);
  if (descriptor.get() < 0 || ::fsync(descriptor.get()) != 0) {
    fail("{}: cannot be written to disk: {}", path.string(), reason());
  }
}

fs::path temporary_name(const fs::path& target) {
  fs::path name = target;
  name += fmt::format(".partial-{}", ::getpid());
  return name;
}

fs::path folder_of(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

}  // namespace

MappedFile::MappedFile(fs::path path) : path_(std::move(path)) {
  const Descriptor descriptor(path_, O_RDONLY);
  if (descriptor.get() < 0) fail("{}: cannot be opened: {}", path_.string(), reason());
  struct stat status {};
  if (::fstat(descriptor.get(), &status) != 0 || !S_ISREG(status.st_mode)) {
    fail("{}: not a regular file", path_.string());
  }
  const auto size = static_cast<std::size_t>(status.st_size);
  if (size == 0) return;
  void* address = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, descriptor.get(), 0);
  if (address == MAP_FAILED) fail("{}: cannot be mapped: {}", path_.string(), reason());
  bytes_ = {static_cast<const std::byte*>(address), size};
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)), bytes_(std::exchange(other.bytes_, {})) {}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

void MappedFile::drop(std::span<const std::byte> part) const {
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto begin = round_up(reinterpret_cast<std::uintptr_t>(part.data()), page);
  const auto end = reinterpret_cast<std::uintptr_t>(part.data() + part.size()) / page * page;
  if (begin < end) ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

std::string read_text(const fs::path& path) {
  const MappedFile file(path);
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

AtomicFile::AtomicFile(fs::path path) : path_(std::move(path)), temporary_(temporary_name(path_)) {
  descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (descriptor_ < 0) fail("{}: cannot be created: {}", path_.string(), reason());
}

AtomicFile::~AtomicFile() {
  if (descriptor_ < 0) return;
  ::close(descriptor_);
  ::unlink(temporary_.c_str());
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor_, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) fail("{}: cannot be written: {}", path_.string(), reason());
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
}

void AtomicFile::write(std::string_view text) { write(std::as_bytes(std::span(text))); }

void AtomicFile::commit() {
  if (::fsync(descriptor_) != 0) fail("{}: cannot be written: {}", path_.string(), reason());
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) {
    fail("{}: cannot be put in place: {}", path_.string(), reason());
  }
  ::close(std::exchange(descriptor_, -1));
  sync_path(folder_of(path_));
}

void write_text(const fs::path& path, std::string_view text) {
  AtomicFile file(path);
  file.write(text);
  file.commit();
}

AtomicDirectory::AtomicDirectory(fs::path target)
    : target_(target.has_filename() ? std::move(target) : target.parent_path()),
      temporary_(temporary_name(target_)) {
  remove_tree(temporary_);
  std::error_code error;
  fs::create_directories(temporary_, error);
  if (error) fail("{}: cannot be created: {}", target_.string(), error.message());
}

AtomicDirectory::~AtomicDirectory() {
  if (!committed_) remove_tree(temporary_);
}

void AtomicDirectory::commit() {
  std::set<fs::path> folders{temporary_};
  for (const fs::path& file : files_below(temporary_)) {
    sync_path(file);
    fs::path folder = file.parent_path();
    while (folders.insert(folder).second) folder = folder.parent_path();
  }
  for (const fs::path& folder : folders) sync_path(folder);
  // An exchange has no instant without a directory of that name; the old one is then removed
  // under the temporary name.
  const bool replaces = fs::exists(target_);
  if (::renameat2(AT_FDCWD, temporary_.c_str(), AT_FDCWD, target_.c_str(),
                  replaces ? RENAME_EXCHANGE : RENAME_NOREPLACE) != 0) {
    fail("{}: cannot be put in place: {}", target_.string(), reason());
  }
  committed_ = true;
  if (replaces) remove_tree(temporary_);
  sync_path(folder_of(target_));
}

}  // namespace qlora
