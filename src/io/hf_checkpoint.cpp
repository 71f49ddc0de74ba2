#include "qlora/io/hf_checkpoint.h"

#include "io/json_map.h"
#include "qlora/base/directory.h"
#include "qlora/base/error.h"

#include <set>
#include <utility>

namespace qlora::io {
namespace fs = std::filesystem;
namespace {

constexpr const char* kSingleFile = "model.safetensors";
constexpr const char* kIndexFile = "model.safetensors.index.json";

// A GGUF file or a pickle checkpoint that lies in the directory instead, as a hint for the message.
std::string other_weights(const fs::path& directory) {
  for (const fs::path& entry : directory_entries(directory)) {
    const std::string name = entry.filename().string();
    if (name.ends_with(".gguf")) return fmt::format("; name the file {} itself", name);
    if (name.ends_with(".bin") || name.ends_with(".pth")) {
      return fmt::format("; {} is a pickle file, which is not read: convert it to safetensors",
                         name);
    }
  }
  return "";
}

// Index entries come from outside: they may only name files beside the index.
bool is_plain_file_name(const std::string& name) {
  return !name.empty() && fs::path(name).filename() == name && name != "." && name != "..";
}

}  // namespace

void require_model_directory(const fs::path& path) {
  if (!fs::is_directory(path)) {
    fail(
        "{}: no such model directory; fetch one first, for example: hf download "
        "ORGANISATION/MODEL --local-dir {}",
        path.string(), path.string());
  }
  if (!fs::exists(path / "config.json")) {
    fail("{}: config.json is missing: not a model directory{}", path.string(), other_weights(path));
  }
}

HfCheckpoint::HfCheckpoint(fs::path directory) : directory_(std::move(directory)) {
  require_model_directory(directory_);
  if (fs::exists(directory_ / kSingleFile)) {
    add_file(directory_ / kSingleFile);
  } else if (fs::exists(directory_ / kIndexFile)) {
    add_shards(directory_ / kIndexFile);
  } else {
    fail("{}: no weights: expected {} or {}{}", directory_.string(), kSingleFile, kIndexFile,
         other_weights(directory_));
  }
}

void HfCheckpoint::add_file(const fs::path& path) {
  const auto& file = files_.emplace_back(std::make_unique<SafetensorsFile>(path));
  for (const TensorView& tensor : file->tensors()) {
    const auto [it, added] = tensors_.emplace(tensor.name, Location{file.get(), &tensor});
    if (!added) {
      fail("{}: tensor '{}' is already in {}", path.string(), tensor.name,
           it->second.file->path().string());
    }
  }
}

void HfCheckpoint::add_shards(const fs::path& index_path) {
  const std::string where = index_path.string();
  const JsonMap index = parse_json_map(read_text(index_path), where);
  const auto map = index.find("weight_map");
  if (map == index.end() || !map->is_object() || map->empty()) {
    fail("{}: 'weight_map' is missing; expected an object of tensor name to file", where);
  }
  std::set<std::string> names;
  for (const auto& [tensor, file] : map->items()) {
    if (!file.is_string() || !is_plain_file_name(file.get<std::string>())) {
      fail("{}: tensor '{}' must name a file beside the index", where, tensor);
    }
    names.insert(file.get<std::string>());
  }
  for (const std::string& name : names) {
    if (!fs::exists(directory_ / name)) {
      fail("{}: the shard {} is missing ({} of {} are named by the index); fetch it again",
           directory_.string(), name, name, names.size());
    }
    add_file(directory_ / name);
  }
  for (const auto& [tensor, file] : map->items()) {
    const fs::path expected = directory_ / file.get<std::string>();
    const Location found = find(tensor);
    if (found.tensor == nullptr || found.file->path() != expected) {
      fail("{}: tensor '{}' is missing, though {} promises it there", expected.string(), tensor,
           kIndexFile);
    }
  }
}

HfCheckpoint::Location HfCheckpoint::find(std::string_view name) const {
  const auto it = tensors_.find(std::string(name));
  return it == tensors_.end() ? Location{} : it->second;
}

HfCheckpointWriter::HfCheckpointWriter(fs::path directory, std::vector<TensorSpec> tensors,
                                       std::int64_t max_shard_bytes)
    : directory_(std::move(directory)) {
  std::int64_t shard_bytes = 0;
  for (TensorSpec& tensor : tensors) {
    const std::int64_t bytes = byte_count(tensor);
    if (shards_.empty() || (shard_bytes > 0 && shard_bytes + bytes > max_shard_bytes)) {
      shards_.emplace_back();
      shard_bytes = 0;
    }
    shard_bytes += bytes;
    total_bytes_ += bytes;
    if (!shard_of_.emplace(tensor.name, shards_.size() - 1).second) {
      fail("{}: tensor '{}' is to be written twice", directory_.string(), tensor.name);
    }
    shards_.back().tensors.push_back(std::move(tensor));
  }
  for (std::size_t i = 0; i < shards_.size(); ++i) {
    shards_[i].missing = shards_[i].tensors.size();
    shards_[i].file_name = shards_.size() == 1 ? kSingleFile
                                               : fmt::format("model-{:05}-of-{:05}.safetensors",
                                                             i + 1, shards_.size());
  }
}

HfCheckpointWriter::~HfCheckpointWriter() = default;

void HfCheckpointWriter::write(std::string_view name, std::span<const std::byte> bytes) {
  const auto it = shard_of_.find(name);
  QLORA_ASSERT(it != shard_of_.end());
  Shard& shard = shards_[it->second];
  if (!shard.writer) {
    shard.writer = std::make_unique<SafetensorsWriter>(directory_ / shard.file_name, shard.tensors);
  }
  shard.writer->write(name, bytes);
  if (--shard.missing == 0) {
    shard.writer->commit();
    shard.writer.reset();
  }
}

void HfCheckpointWriter::finish() {
  for (const Shard& shard : shards_) {
    if (shard.missing == 0) continue;
    if (shard.writer) shard.writer->commit();  // names the tensor
    fail("{}: none of its {} tensors was written", shard.file_name, shard.missing);
  }
  if (shards_.size() > 1) write_index();
}

void HfCheckpointWriter::write_index() const {
  JsonMap weight_map = JsonMap::object();
  for (const auto& [tensor, shard] : shard_of_) weight_map[tensor] = shards_[shard].file_name;
  const JsonMap index = {{"metadata", {{"total_size", total_bytes_}}}, {"weight_map", weight_map}};
  write_text(directory_ / kIndexFile, index.dump(2) + "\n");
}

}  // namespace qlora::io
