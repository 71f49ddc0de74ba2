#pragma once
// A model directory as the HF libraries lay it out: config.json beside model.safetensors, or beside
// model.safetensors.index.json and the shards that it names.

#include "qlora/io/safetensors.h"

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace qlora::io {

// Throws Error (with the way to fetch a model) unless `path` is a directory with config.json.
void require_model_directory(const std::filesystem::path& path);

// The safetensors of a directory, all mapped.
class HfCheckpoint {
 public:
  // Throws Error: neither file there, a missing shard, a tensor that the index promises and the
  // shard lacks.
  explicit HfCheckpoint(std::filesystem::path directory);

  struct Location {
    const SafetensorsFile* file = nullptr;
    const TensorView* tensor = nullptr;
  };

  const std::filesystem::path& directory() const { return directory_; }
  const std::vector<std::unique_ptr<SafetensorsFile>>& files() const { return files_; }
  // Both pointers null where absent.
  Location find(std::string_view name) const;

 private:
  void add_file(const std::filesystem::path& path);
  void add_shards(const std::filesystem::path& index_path);

  std::filesystem::path directory_;
  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  std::unordered_map<std::string, Location> tensors_;
};

inline constexpr std::int64_t kDefaultShardBytes = 5'000'000'000;

// Writes model.safetensors, or model-0000x-of-0000n.safetensors and the index, into a directory
// that exists (an AtomicDirectory's, say). Holds no more than SafetensorsWriter does.
class HfCheckpointWriter {
 public:
  // Shards are filled in the order of `tensors`; one larger than `max_shard_bytes` gets its own.
  HfCheckpointWriter(std::filesystem::path directory, std::vector<TensorSpec> tensors,
                     std::int64_t max_shard_bytes = kDefaultShardBytes);
  ~HfCheckpointWriter();

  // The whole tensor, once, best in the order of the constructor's list.
  void write(std::string_view name, std::span<const std::byte> bytes);
  // Completes the last shard and writes the index. Throws Error naming a tensor not written.
  void finish();

 private:
  struct Shard {
    std::string file_name;
    std::vector<TensorSpec> tensors;
    std::size_t missing = 0;
    std::unique_ptr<SafetensorsWriter> writer;
  };
  void write_index() const;

  std::filesystem::path directory_;
  std::vector<Shard> shards_;
  std::map<std::string, std::size_t, std::less<>> shard_of_;
  std::int64_t total_bytes_ = 0;
};

}  // namespace qlora::io
