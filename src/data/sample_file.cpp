#include "data/sample_file.h"

#include "qlora/base/error.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace qlora::data {
namespace {

constexpr const char* kTemporaryRemedy = "set TMPDIR to a folder with room";
constexpr const char* kKeptRemedy = "set data.cache_dir to a folder with room, or to \"\"";

// The Filesystem Hierarchy Standard's place for temporary files that may be large: unlike /tmp,
// which may lie in memory, it is on a disk.
std::string temporary_folder() {
  const char* const chosen = std::getenv("TMPDIR");
  return chosen != nullptr && *chosen != '\0' ? chosen : "/var/tmp";
}

}  // namespace

SampleFile::SampleFile(int descriptor, std::string folder, std::string remedy)
    : descriptor_(descriptor), folder_(std::move(folder)), remedy_(std::move(remedy)) {}

SampleFile::SampleFile() : SampleFile(-1, temporary_folder(), kTemporaryRemedy) {
  std::string name = folder_ + "/qlora-samples-XXXXXX";
  descriptor_ = ::mkostemp(name.data(), O_CLOEXEC);
  if (descriptor_ < 0 || ::unlink(name.c_str()) != 0) fail_io("made");
}

std::shared_ptr<SampleFile> SampleFile::to_be_kept(const std::filesystem::path& folder,
                                                   std::string& problem) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  const int descriptor = ::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0644);
  if (descriptor < 0) {
    problem = std::strerror(errno);
    return nullptr;
  }
  return std::shared_ptr<SampleFile>(new SampleFile(descriptor, folder.string(), kKeptRemedy));
}

std::shared_ptr<SampleFile> SampleFile::open(const std::filesystem::path& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return nullptr;
  return std::shared_ptr<SampleFile>(
      new SampleFile(descriptor, path.parent_path().string(), kKeptRemedy));
}

SampleFile::~SampleFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

std::int64_t SampleFile::size() const {
  struct stat status {};
  if (::fstat(descriptor_, &status) != 0) fail_io("read");
  return status.st_size;
}

void SampleFile::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor_, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) fail_io("written");
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
}

void SampleFile::read(std::int64_t offset, std::span<std::byte> bytes) const {
  while (!bytes.empty()) {
    const ssize_t count = ::pread(descriptor_, bytes.data(), bytes.size(), offset);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) fail_io("read");
    bytes = bytes.subspan(static_cast<std::size_t>(count));
    offset += count;
  }
}

void SampleFile::keep_as(const std::filesystem::path& path) const {
  if (::fsync(descriptor_) != 0) fail_io("written");
  const std::string nameless = fmt::format("/proc/self/fd/{}", descriptor_);
  const int linked =
      ::linkat(AT_FDCWD, nameless.c_str(), AT_FDCWD, path.c_str(), AT_SYMLINK_FOLLOW);
  if (linked != 0 && errno != EEXIST) fail_io("named");
}

void SampleFile::fail_io(std::string_view action) const {
  fail("{}: the file of tokens cannot be {}: {}; {}", folder_, action, std::strerror(errno),
       remedy_);
}

}  // namespace qlora::data
