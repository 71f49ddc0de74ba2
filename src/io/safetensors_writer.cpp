#include "io/safetensors_dtype.h"
#include "qlora/base/error.h"
#include "qlora/base/json.h"
#include "qlora/io/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

namespace qlora::io {
namespace {

constexpr std::uint64_t kAlignment = 8;

// The largest power of two, up to kAlignment, that divides a tensor's length. Every element size
// divides the length, so in descending order of this each tensor starts aligned.
std::uint64_t granularity(const TensorSpec& tensor) {
  const auto bytes = static_cast<std::uint64_t>(byte_count(tensor));
  return bytes == 0 ? kAlignment : std::min(kAlignment, bytes & (~bytes + 1));
}

std::vector<TensorSpec> laid_out(std::vector<TensorSpec> tensors) {
  std::ranges::stable_sort(tensors, std::greater<>(), granularity);
  return tensors;
}

// Written by hand around nlohmann's escaping: a JSON object would search its keys linearly.
std::string header_json(const std::vector<TensorSpec>& tensors,
                        const SafetensorsMetadata& metadata) {
  std::string text = "{";
  if (!metadata.empty()) text += "\"__metadata__\":" + Json(metadata).dump();
  std::int64_t offset = 0;
  for (const TensorSpec& tensor : tensors) {
    const std::int64_t end = offset + byte_count(tensor);
    if (text.size() > 1) text += ',';
    text += fmt::format(R"({}:{{"dtype":"{}","shape":{},"data_offsets":[{},{}]}})",
                        Json(tensor.name).dump(), safetensors_name(tensor.dtype),
                        Json(tensor.shape).dump(), offset, end);
    offset = end;
  }
  text += "}";
  text.append((kAlignment - text.size() % kAlignment) % kAlignment, ' ');
  return text;
}

}  // namespace

SafetensorsWriter::SafetensorsWriter(std::filesystem::path path,
                                     const std::vector<TensorSpec>& tensors,
                                     const SafetensorsMetadata& metadata)
    : path_(path.string()), file_(std::move(path)) {
  const std::vector<TensorSpec> layout = laid_out(tensors);
  for (const TensorSpec& tensor : layout) {
    if (!index_.emplace(tensor.name, layout_.size()).second) {
      fail("{}: tensor '{}' is to be written twice", path_, tensor.name);
    }
    layout_.push_back({tensor.name, byte_count(tensor), false, {}});
  }
  const std::string header = header_json(layout, metadata);
  const std::uint64_t length = header.size();
  file_.write(std::as_bytes(std::span(&length, 1)));
  file_.write(header);
}

void SafetensorsWriter::write(std::string_view name, std::span<const std::byte> bytes) {
  const auto it = index_.find(std::string(name));
  QLORA_ASSERT(it != index_.end());
  Entry& entry = layout_[it->second];
  QLORA_ASSERT(!entry.written && std::cmp_equal(entry.bytes, bytes.size()));
  entry.written = true;
  if (it->second != next_) {
    entry.held.assign(bytes.begin(), bytes.end());
    return;
  }
  file_.write(bytes);
  for (++next_; next_ < layout_.size() && layout_[next_].written; ++next_) {
    file_.write(layout_[next_].held);
    layout_[next_].held = {};
  }
}

void SafetensorsWriter::commit() {
  if (next_ < layout_.size()) {
    fail("{}: tensor '{}' was announced but not written", path_, layout_[next_].name);
  }
  file_.commit();
}

}  // namespace qlora::io
