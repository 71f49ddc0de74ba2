#include "qlora/io/safetensors.h"

#include "io/json_map.h"
#include "io/safetensors_dtype.h"
#include "qlora/base/error.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

namespace qlora::io {
namespace {

constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;  // the format's own limit

std::string_view header_text(const MappedFile& file) {
  const std::string where = file.path().string();
  const auto bytes = file.bytes();
  if (bytes.size() < sizeof(std::uint64_t)) {
    fail("{}: {} bytes are too short for a safetensors file; was the download cut off?", where,
         bytes.size());
  }
  std::uint64_t length = 0;
  std::memcpy(&length, bytes.data(), sizeof length);
  const std::uint64_t room = bytes.size() - sizeof length;
  if (length > room || length > kMaxHeaderBytes) {
    fail(
        "{}: the safetensors header claims {} bytes, but the file has {} after it; it is "
        "truncated or of another format",
        where, length, room);
  }
  return {reinterpret_cast<const char*>(bytes.data() + sizeof length), length};
}

// A non-negative whole number that fits int64; -1 for anything else.
std::int64_t size_value(const JsonMap& value) {
  constexpr auto kMax = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
  if (!value.is_number_unsigned() || value.get<std::uint64_t>() > kMax) return -1;
  return value.get<std::int64_t>();
}

std::vector<std::int64_t> size_list(const JsonMap& entry, const char* key, std::string_view where) {
  const auto it = entry.find(key);
  if (it == entry.end() || !it->is_array()) fail("{}: '{}' must be a list of sizes", where, key);
  std::vector<std::int64_t> sizes;
  sizes.reserve(it->size());
  for (const JsonMap& item : *it) {
    sizes.push_back(size_value(item));
    if (sizes.back() < 0) fail("{}: '{}' holds something that is not a size", where, key);
  }
  return sizes;
}

// Source: the header's entry of one tensor. `data` is everything after the header.
TensorView parse_tensor(const std::string& name, const JsonMap& entry,
                        std::span<const std::byte> data, const std::string& path) {
  const std::string where = fmt::format("{}: tensor '{}'", path, name);
  if (!entry.is_object()) fail("{}: its header entry is not an object", where);
  const auto type = entry.find("dtype");
  if (type == entry.end() || !type->is_string()) fail("{}: 'dtype' is missing", where);
  const auto dtype = dtype_of_safetensors(type->get_ref<const std::string&>());
  if (!dtype) fail("{}: dtype {} is not supported", where, type->get_ref<const std::string&>());

  TensorView view{name, *dtype, size_list(entry, "shape", where), {}};
  const auto offsets = size_list(entry, "data_offsets", where);
  if (offsets.size() != 2 || offsets[0] > offsets[1]) {
    fail("{}: 'data_offsets' must be [begin, end]", where);
  }
  if (std::cmp_greater(offsets[1], data.size())) {
    fail(
        "{}: its bytes end at {}, but the file has only {} bytes of data; was the download cut "
        "off?",
        where, offsets[1], data.size());
  }
  std::int64_t expected = 0;
  try {
    expected = byte_count({{}, view.dtype, view.shape});
  } catch (const Error& error) {
    fail("{}: {}", where, error.what());
  }
  if (expected != offsets[1] - offsets[0]) {
    fail("{}: {} of {} needs {} bytes, got {}", where, name_of(*dtype), shape_text(view.shape),
         expected, offsets[1] - offsets[0]);
  }
  view.bytes =
      data.subspan(static_cast<std::size_t>(offsets[0]), static_cast<std::size_t>(expected));
  return view;
}

SafetensorsMetadata parse_metadata(const JsonMap& entry, const std::string& path) {
  if (!entry.is_object()) fail("{}: '__metadata__' is not an object", path);
  SafetensorsMetadata metadata;
  for (const auto& [key, value] : entry.items()) {
    if (!value.is_string()) fail("{}: metadata '{}' is not a text", path, key);
    metadata[key] = value.get<std::string>();
  }
  return metadata;
}

// Sorts by position and holds the tensors to cover the data exactly.
void order_and_check_cover(std::vector<TensorView>& tensors, std::span<const std::byte> data,
                           const std::string& path) {
  // A tensor without bytes comes before one that starts at the same place.
  std::ranges::sort(tensors, {}, [](const TensorView& tensor) {
    return std::pair(tensor.bytes.data(), tensor.bytes.size());
  });
  const std::byte* end = data.data();
  for (const TensorView& tensor : tensors) {
    if (tensor.bytes.data() != end) {
      fail("{}: tensor '{}' starts at byte {} of the data, expected {}: the tensors {}", path,
           tensor.name, tensor.bytes.data() - data.data(), end - data.data(),
           tensor.bytes.data() < end ? "overlap" : "leave a gap");
    }
    end += tensor.bytes.size();
  }
  if (end != data.data() + data.size()) {
    fail("{}: {} bytes follow the last tensor, expected none", path,
         data.data() + data.size() - end);
  }
}

}  // namespace

SafetensorsFile::SafetensorsFile(std::filesystem::path path) : file_(std::move(path)) {
  const std::string where = file_.path().string();
  const std::string_view text = header_text(file_);
  const auto data = file_.bytes().subspan(sizeof(std::uint64_t) + text.size());
  const JsonMap header = parse_json_map(text, where);
  if (!header.is_object()) fail("{}: the safetensors header is not a JSON object", where);
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") {
      metadata_ = parse_metadata(entry, where);
    } else {
      tensors_.push_back(parse_tensor(name, entry, data, where));
    }
  }
  order_and_check_cover(tensors_, data, where);
  for (std::size_t i = 0; i < tensors_.size(); ++i) index_.emplace(tensors_[i].name, i);
}

const TensorView* SafetensorsFile::find(std::string_view name) const {
  const auto it = index_.find(std::string(name));
  return it == index_.end() ? nullptr : &tensors_[it->second];
}

}  // namespace qlora::io
