#pragma once
// Where the records of a SampleStore lie.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace qlora::data {

// An open file. Errors name its folder.
class SampleFile {
 public:
  // Without a name, gone when it is closed: in $TMPDIR, else /var/tmp. Throws Error.
  SampleFile();
  // Likewise, but in a folder in which keep_as may give it a name. Null where the folder does not
  // allow that; `problem` then says why.
  static std::shared_ptr<SampleFile> to_be_kept(const std::filesystem::path& folder,
                                                std::string& problem);
  // One that was kept. Null where there is none.
  static std::shared_ptr<SampleFile> open(const std::filesystem::path& path);
  ~SampleFile();
  SampleFile(const SampleFile&) = delete;
  SampleFile& operator=(const SampleFile&) = delete;

  std::int64_t size() const;  // bytes
  // At the end. Throws Error.
  void write(std::span<const std::byte> bytes);
  // For several threads at once. Throws Error where there are fewer bytes.
  void read(std::int64_t offset, std::span<std::byte> bytes) const;
  // Syncs the file and gives it a name, in the folder that it was made in. A file that already has
  // the name stays.
  void keep_as(const std::filesystem::path& path) const;

 private:
  SampleFile(int descriptor, std::string folder, std::string remedy);
  [[noreturn]] void fail_io(std::string_view action) const;

  int descriptor_ = -1;
  std::string folder_;
  std::string remedy_;
};

}  // namespace qlora::data
