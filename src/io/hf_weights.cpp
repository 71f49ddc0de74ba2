// WeightSource over the safetensors of an HF directory.

#include "io/weight_readers.h"
#include "qlora/base/error.h"
#include "qlora/io/hf_checkpoint.h"

#include <cmath>
#include <cstring>
#include <map>
#include <set>
#include <utility>

namespace qlora::io {
namespace {

constexpr std::string_view kStateMarker = ".quant_state.bitsandbytes__";
constexpr std::int64_t kCodes = 16;
constexpr std::int64_t kNestedCodes = 256;

std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

class HfWeights final : public WeightSource {
 public:
  explicit HfWeights(const std::filesystem::path& directory);

  std::vector<std::string> names() const override { return names_; }
  bool has(std::string_view name) const override { return entries_.contains(name); }
  const WeightInfo& info(std::string_view name) const override { return entry(name).info; }
  void read(std::string_view name, DType out, void* destination, RowRange rows) const override;
  std::optional<Bnb4bitTensor> prequantized(std::string_view name) const override {
    return entry(name).packed;
  }
  void release(std::string_view name) const override;

 private:
  struct Entry {
    WeightInfo info;
    HfCheckpoint::Location location;
    std::optional<Bnb4bitTensor> packed;
  };

  const Entry& entry(std::string_view name) const;
  void add_packed(const TensorView& state_tensor);
  void add_plain(const SafetensorsFile& file, const TensorView& tensor);
  // A side tensor of a packed weight; it no longer counts as a weight of its own.
  std::span<const std::byte> take_part(const std::string& name, DType dtype, std::int64_t elements);

  HfCheckpoint checkpoint_;
  std::vector<std::string> names_;
  std::map<std::string, Entry, std::less<>> entries_;
  std::set<std::string, std::less<>> parts_;
};

HfWeights::HfWeights(const std::filesystem::path& directory) : checkpoint_(directory) {
  const std::filesystem::path config = directory / "config.json";
  read_quantization_config(read_json(config), config.string());
  for (const auto& file : checkpoint_.files()) {
    for (const TensorView& tensor : file->tensors()) {
      if (tensor.name.find(kStateMarker) != std::string::npos) add_packed(tensor);
    }
  }
  for (const auto& file : checkpoint_.files()) {
    for (const TensorView& tensor : file->tensors()) {
      if (parts_.contains(tensor.name)) continue;
      add_plain(*file, tensor);
      names_.push_back(tensor.name);
    }
  }
}

std::span<const std::byte> HfWeights::take_part(const std::string& name, DType dtype,
                                                std::int64_t elements) {
  const auto [file, tensor] = checkpoint_.find(name);
  if (tensor == nullptr) {
    fail("{}: tensor '{}' is missing beside its 4-bit weight", checkpoint_.directory().string(),
         name);
  }
  const std::int64_t bytes = elements * static_cast<std::int64_t>(size_of(dtype));
  if (tensor->dtype != dtype || std::cmp_not_equal(tensor->bytes.size(), bytes)) {
    fail("{}: tensor '{}' is {} {}; the quant state beside it needs {} of {}",
         file->path().string(), name, name_of(tensor->dtype), shape_text(tensor->shape), elements,
         name_of(dtype));
  }
  parts_.insert(name);
  return tensor->bytes;
}

void HfWeights::add_packed(const TensorView& state_tensor) {
  const std::string& state_name = state_tensor.name;
  const std::string name = state_name.substr(0, state_name.find(kStateMarker));
  const HfCheckpoint::Location location = checkpoint_.find(name);
  const std::string where = fmt::format(
      "{}: tensor '{}'", checkpoint_.find(state_name).file->path().string(), state_name);
  if (location.tensor == nullptr) fail("{}: the weight '{}' is missing", where, name);

  Bnb4bitTensor packed{decode_bnb_state(as_text(state_tensor.bytes), where), {}, {}, {}, {}, {}};
  const Bnb4bitState& state = packed.state;
  packed.packed = location.tensor->bytes;
  if (std::cmp_not_equal(packed.packed.size(), (state.elements() + 1) / 2)) {
    fail("{}: it states the shape {}, but '{}' holds {} bytes", where, shape_text(state.shape),
         name, packed.packed.size());
  }
  packed.quant_map = take_part(name + ".quant_map", DType::Float32, kCodes);
  if (state.nested) {
    const std::int64_t groups =
        (state.blocks() + state.nested->blocksize - 1) / state.nested->blocksize;
    packed.absmax = take_part(name + ".absmax", DType::UInt8, state.blocks());
    packed.nested_absmax = take_part(name + ".nested_absmax", DType::Float32, groups);
    packed.nested_quant_map = take_part(name + ".nested_quant_map", DType::Float32, kNestedCodes);
  } else {
    packed.absmax = take_part(name + ".absmax", DType::Float32, state.blocks());
  }
  parts_.insert(state_name);

  Entry entry;
  entry.location = location;
  entry.info = {state.shape, state.dtype, state.quant_type, 0, location.file->path()};
  for (const auto part : {packed.packed, packed.absmax, packed.quant_map, packed.nested_absmax,
                          packed.nested_quant_map, state_tensor.bytes}) {
    entry.info.stored_bytes += static_cast<std::int64_t>(part.size());
  }
  entry.packed = std::move(packed);
  if (!entries_.emplace(name, std::move(entry)).second) {
    fail("{}: the weight '{}' has two quant states", where, name);
  }
}

void HfWeights::add_plain(const SafetensorsFile& file, const TensorView& tensor) {
  Entry entry;
  entry.location = {&file, &tensor};
  entry.info = {tensor.shape, tensor.dtype, std::string(name_of(tensor.dtype)),
                static_cast<std::int64_t>(tensor.bytes.size()), file.path()};
  entries_.emplace(tensor.name, std::move(entry));  // keeps the packed one
}

const HfWeights::Entry& HfWeights::entry(std::string_view name) const {
  const auto it = entries_.find(name);
  if (it == entries_.end()) fail_missing(name, names_, checkpoint_.directory().string());
  return it->second;
}

void HfWeights::read(std::string_view name, DType out, void* destination, RowRange rows) const {
  const Entry& found = entry(name);
  if (found.packed) {
    fail("{}: tensor '{}' is packed {}; it must be dequantized, not read", found.info.file.string(),
         name, found.info.stored_as);
  }
  const TensorView& tensor = *found.location.tensor;
  const StoredElements stored = plain_elements(tensor.bytes.data(), tensor.dtype);
  const RowRun run = check_read(found.info, name, stored, out, rows);
  const std::int64_t begin = run.begin * run.row_elements;
  const std::int64_t count = run.count * run.row_elements;
  convert_elements_parallel(stored, begin, count, out, static_cast<std::byte*>(destination));
  const auto element = static_cast<std::size_t>(stored.block_bytes);
  found.location.file->drop(tensor.bytes.subspan(static_cast<std::size_t>(begin) * element,
                                                 static_cast<std::size_t>(count) * element));
}

void HfWeights::release(std::string_view name) const {
  const Entry& found = entry(name);
  found.location.file->drop(found.location.tensor->bytes);
}

}  // namespace

std::unique_ptr<WeightSource> open_hf_weights(const std::filesystem::path& directory) {
  return std::make_unique<HfWeights>(directory);
}

}  // namespace qlora::io
