#include "io/gguf_parser.h"

#include "qlora/base/error.h"
#include "qlora/base/narrow.h"
#include "qlora/io/tensor_view.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

namespace qlora::io {
namespace {

constexpr std::uint32_t kMinVersion = 2;
constexpr std::uint32_t kMaxVersion = 3;
constexpr std::uint32_t kMaxDimensions = 4;  // GGML_MAX_DIMS
constexpr std::int64_t kDefaultAlignment = 32;
constexpr std::int64_t kMaxAlignment = 1 << 20;
constexpr std::uint64_t kMaxNameBytes = 65535;              // the format's limit on keys
constexpr std::uint64_t kLeastKeyBytes = 8 + 4 + 1;         // empty name, type, one byte
constexpr std::uint64_t kLeastTensorBytes = 8 + 4 + 4 + 8;  // empty name, rank 0, type, offset

}  // namespace

std::size_t gguf_scalar_bytes(GgufType type) {
  switch (type) {
    case GgufType::UInt8:
    case GgufType::Int8:
    case GgufType::Bool: return 1;
    case GgufType::UInt16:
    case GgufType::Int16: return 2;
    case GgufType::UInt32:
    case GgufType::Int32:
    case GgufType::Float32: return 4;
    case GgufType::UInt64:
    case GgufType::Int64:
    case GgufType::Float64: return 8;
    case GgufType::String:
    case GgufType::Array: break;
  }
  return 0;
}

GgufParser::GgufParser(GgufFile& file)
    : file_(file), bytes_(file.file_.bytes()), where_(file.path().string()) {}

std::span<const std::byte> GgufParser::take_bytes(std::uint64_t count, std::string_view what) {
  if (count > remaining()) {
    fail("{}: {} needs {} bytes, but the file ends {} bytes later; was the download cut off?",
         where_, what, count, remaining());
  }
  const auto part = bytes_.subspan(at_, count);
  at_ += count;
  return part;
}

template <class T>
T GgufParser::take() {
  T value;
  std::memcpy(&value, take_bytes(sizeof value, "the GGUF header").data(), sizeof value);
  return value;
}

std::string GgufParser::take_string(std::string_view what) {
  const auto length = take<std::uint64_t>();
  if (length > kMaxNameBytes) fail("{}: {} is {} bytes long", where_, what, length);
  const auto bytes = take_bytes(length, what);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

GgufType GgufParser::take_type(std::string_view key) {
  const auto type = take<std::uint32_t>();
  if (type > static_cast<std::uint32_t>(GgufType::Float64)) {
    fail("{}: the key '{}' has the unknown type {}", where_, key, type);
  }
  return static_cast<GgufType>(type);
}

void GgufParser::check_count(std::uint64_t count, std::uint64_t least,
                             std::string_view what) const {
  if (count > remaining() / least) {
    fail("{}: {} {} do not fit the {} bytes that follow; the file is damaged", where_, count, what,
         remaining());
  }
}

void GgufParser::parse_array(GgufFile::Value& value, std::string_view key) {
  value.is_array = true;
  value.type = take_type(key);
  value.count = take<std::uint64_t>();
  if (value.type == GgufType::Array) fail("{}: the key '{}' is a list of lists", where_, key);
  const std::uint64_t begin = at_;
  if (value.type == GgufType::String) {
    check_count(value.count, sizeof(std::uint64_t), "texts");
    for (std::uint64_t i = 0; i < value.count; ++i) take_bytes(take<std::uint64_t>(), key);
  } else {
    const std::uint64_t size = gguf_scalar_bytes(value.type);
    check_count(value.count, size, "values");
    take_bytes(value.count * size, key);
  }
  value.bytes = bytes_.subspan(begin, at_ - begin);
}

void GgufParser::parse_key() {
  const std::string key = take_string("a key's name");
  GgufFile::Value value{take_type(key), false, 1, {}};
  if (value.type == GgufType::Array) {
    parse_array(value, key);
  } else if (value.type == GgufType::String) {
    const std::uint64_t begin = at_;
    take_bytes(take<std::uint64_t>(), key);
    value.bytes = bytes_.subspan(begin, at_ - begin);
  } else {
    value.bytes = take_bytes(gguf_scalar_bytes(value.type), key);
  }
  if (!file_.keys_.emplace(key, value).second) fail("{}: the key '{}' is there twice", where_, key);
  file_.key_order_.push_back(key);
}

void GgufParser::parse_tensor() {
  GgufTensor tensor;
  tensor.name = take_string("a tensor's name");
  const auto dimensions = take<std::uint32_t>();
  if (dimensions > kMaxDimensions) {
    fail("{}: tensor '{}' has {} dimensions; expected at most {}", where_, tensor.name, dimensions,
         kMaxDimensions);
  }
  for (std::uint32_t i = 0; i < dimensions; ++i) {
    const auto size = take<std::uint64_t>();
    if (!std::in_range<std::int64_t>(size)) {
      fail("{}: tensor '{}' has a dimension of {}", where_, tensor.name, size);
    }
    tensor.shape.insert(tensor.shape.begin(), static_cast<std::int64_t>(size));
  }
  const auto type = take<std::uint32_t>();
  tensor.type = find_ggml_type(type);
  if (tensor.type == nullptr) {
    fail("{}: tensor '{}' has the unknown type number {}", where_, tensor.name, type);
  }
  offsets_.push_back(take<std::uint64_t>());
  if (!file_.tensor_index_.emplace(tensor.name, file_.tensors_.size()).second) {
    fail("{}: tensor '{}' is there twice", where_, tensor.name);
  }
  file_.tensors_.push_back(std::move(tensor));
}

void GgufParser::place_tensors() {
  const std::int64_t alignment =
      file_.find_integer("general.alignment").value_or(kDefaultAlignment);
  if (alignment < 1 || alignment > kMaxAlignment ||
      !std::has_single_bit(static_cast<std::uint64_t>(alignment))) {
    fail("{}: 'general.alignment' is {}; expected a power of two", where_, alignment);
  }
  const auto step = static_cast<std::uint64_t>(alignment);
  const std::uint64_t begin = std::min<std::uint64_t>(round_up(at_, step), bytes_.size());
  const auto data = bytes_.subspan(begin);
  for (std::size_t i = 0; i < file_.tensors_.size(); ++i) {
    GgufTensor& tensor = file_.tensors_[i];
    const std::string where = fmt::format("{}: tensor '{}'", where_, tensor.name);
    const std::int64_t row = tensor.shape.empty() ? 1 : tensor.shape.back();
    if (row % tensor.type->block_elements != 0) {
      fail("{}: its rows of {} are not whole {} blocks of {}", where, row, tensor.type->name,
           tensor.type->block_elements);
    }
    std::uint64_t size = 0;
    try {
      const std::int64_t blocks = element_count(tensor.shape) / tensor.type->block_elements;
      size = static_cast<std::uint64_t>(checked_mul(blocks, tensor.type->block_bytes));
    } catch (const Error& error) {
      fail("{}: {}", where, error.what());
    }
    if (offsets_[i] % step != 0 || offsets_[i] > data.size() || size > data.size() - offsets_[i]) {
      fail(
          "{}: its {} bytes at offset {} do not fit the {} bytes of data; was the download cut "
          "off?",
          where, size, offsets_[i], data.size());
    }
    tensor.bytes = data.subspan(offsets_[i], size);
  }
}

void GgufParser::parse() {
  const auto magic = take<std::uint32_t>();
  if (magic != 0x46554747U) fail("{}: not a GGUF file", where_);
  const auto version = take<std::uint32_t>();
  if (version < kMinVersion || version > kMaxVersion) {
    fail("{}: GGUF version {} is not supported; expected {} or {} (little-endian)", where_, version,
         kMinVersion, kMaxVersion);
  }
  const auto tensors = take<std::uint64_t>();
  const auto keys = take<std::uint64_t>();
  check_count(keys, kLeastKeyBytes, "keys");
  for (std::uint64_t i = 0; i < keys; ++i) parse_key();
  check_count(tensors, kLeastTensorBytes, "tensors");
  for (std::uint64_t i = 0; i < tensors; ++i) parse_tensor();
  place_tensors();
}

}  // namespace qlora::io
