#pragma once
// safetensors files: u64 header length (little-endian), a JSON header
//   {"__metadata__": {text: text}, name: {"dtype", "shape", "data_offsets": [begin, end)}, ...}
// and the tensors' bytes without gaps. Source: the safetensors format description.

#include "qlora/base/file.h"
#include "qlora/io/tensor_view.h"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace qlora::io {

using SafetensorsMetadata = std::map<std::string, std::string>;

// A mapped file; the views point into it.
class SafetensorsFile {
 public:
  // Throws Error unless the header fits the file, every tensor's bytes match dtype x shape, and the
  // tensors cover the data without gap or overlap.
  explicit SafetensorsFile(std::filesystem::path path);
  SafetensorsFile(SafetensorsFile&&) noexcept = default;

  const std::filesystem::path& path() const { return file_.path(); }
  // In the order of their bytes.
  const std::vector<TensorView>& tensors() const { return tensors_; }
  // Null where absent.
  const TensorView* find(std::string_view name) const;
  const SafetensorsMetadata& metadata() const { return metadata_; }
  // Tells the system that the pages of a tensor, or of a part of it, are not needed again.
  void drop(std::span<const std::byte> part) const { file_.drop(part); }

 private:
  MappedFile file_;
  std::vector<TensorView> tensors_;
  std::unordered_map<std::string, std::size_t> index_;
  SafetensorsMetadata metadata_;
};

// Writes a file tensor by tensor; it appears under its name only when commit() returns.
//
// Every tensor is aligned to its element size (PyTorch cannot view it otherwise) although the
// format allows no gaps: tensors are laid out by the largest power of two, up to 8, that divides
// their byte length, in the given order among equals. One that arrives before its turn is kept in
// memory until then; in practice these are the small odd-sized ones.
class SafetensorsWriter {
 public:
  // Throws Error where the file cannot be created or a name comes twice.
  SafetensorsWriter(std::filesystem::path path, const std::vector<TensorSpec>& tensors,
                    const SafetensorsMetadata& metadata = {{"format", "pt"}});

  // The whole tensor, once. Throws Error on a full disk; an unknown name or a wrong length is a
  // programmer's mistake.
  void write(std::string_view name, std::span<const std::byte> bytes);
  // Throws Error naming a tensor that was not written.
  void commit();

 private:
  struct Entry {
    std::string name;
    std::int64_t bytes;
    bool written = false;
    std::vector<std::byte> held;
  };

  std::string path_;
  AtomicFile file_;
  std::vector<Entry> layout_;
  std::unordered_map<std::string, std::size_t> index_;
  std::size_t next_ = 0;  // first entry whose bytes are not in the file
};

}  // namespace qlora::io
