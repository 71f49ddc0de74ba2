#include "qlora/train/checkpoint.h"

#include "qlora/base/directory.h"
#include "qlora/base/file.h"
#include "qlora/base/log.h"
#include "qlora/base/random.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>

namespace qlora::train {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view kPrefix = "checkpoint-";
constexpr const char* kChecksums = "checksums.json";

// N of "checkpoint-N"; empty for any other name.
std::optional<std::int64_t> checkpoint_number(const fs::path& path) {
  const std::string name = path.filename().string();
  if (!name.starts_with(kPrefix)) return std::nullopt;
  const char* begin = name.data() + kPrefix.size();
  const char* end = name.data() + name.size();
  std::int64_t number = 0;
  const auto [stop, error] = std::from_chars(begin, end, number);
  if (error != std::errc() || stop != end || begin == end) return std::nullopt;
  return number;
}

std::string file_hash(const fs::path& path) {
  const MappedFile file(path);
  const std::string_view text(reinterpret_cast<const char*>(file.bytes().data()),
                              file.bytes().size());
  return fmt::format("{:016x}", stable_hash(text));
}

template <class T>
void expect_equal(const char* key, T saved, T current, const fs::path& checkpoint) {
  if (saved == current) return;
  fail(
      "{}: was written by a run with {} {}, this one has {}; restore the setting or start a new "
      "run in another output_dir",
      checkpoint.string(), key, saved, current);
}

}  // namespace

Json to_json(const TrainerState& s) {
  return {{"global_step", s.global_step},
          {"epoch", s.epoch},
          {"max_steps", s.max_steps},
          {"train_batch_size", s.batch_size},
          {"gradient_accumulation_steps", s.accumulation},
          {"seed", s.seed},
          {"data_seed", s.data_seed},
          {"train_samples", s.samples},
          {"group_by_length", s.group_by_length},
          {"packing", s.packing},
          {"optimizer_steps", s.optimizer_steps},
          {"loss_scale", s.loss_scale},
          {"loss_scale_good_steps", s.good_steps}};
}

TrainerState trainer_state_from_json(const Json& json, const std::string& where) {
  const auto integer = [&](const char* key) { return json_get<std::int64_t>(json, key, where); };
  TrainerState s;
  s.global_step = integer("global_step");
  s.epoch = json_get<double>(json, "epoch", where);
  s.max_steps = integer("max_steps");
  s.batch_size = integer("train_batch_size");
  s.accumulation = integer("gradient_accumulation_steps");
  s.seed = integer("seed");
  s.data_seed = integer("data_seed");
  s.samples = integer("train_samples");
  s.group_by_length = json_get<bool>(json, "group_by_length", where);
  s.packing = json_get_or<bool>(json, "packing", false, where);
  s.optimizer_steps = integer("optimizer_steps");
  s.loss_scale = json_get<double>(json, "loss_scale", where);
  s.good_steps = integer("loss_scale_good_steps");
  if (s.global_step < 0 || s.optimizer_steps < 0) fail("{}: negative step count", where);
  return s;
}

void expect_same_run(const TrainerState& saved, const TrainerState& current,
                     const fs::path& checkpoint) {
  expect_equal("training.seed", saved.seed, current.seed, checkpoint);
  expect_equal("training.data_seed", saved.data_seed, current.data_seed, checkpoint);
  expect_equal("training samples:", saved.samples, current.samples, checkpoint);
  expect_equal("training.per_device_train_batch_size", saved.batch_size, current.batch_size,
               checkpoint);
  expect_equal("training.gradient_accumulation_steps", saved.accumulation, current.accumulation,
               checkpoint);
  expect_equal("data.packing", saved.packing, current.packing, checkpoint);
  expect_equal("training.group_by_length", saved.group_by_length, current.group_by_length,
               checkpoint);
}

std::vector<fs::path> list_checkpoints(const fs::path& output_dir) {
  std::vector<std::pair<std::int64_t, fs::path>> numbered;
  if (!fs::is_directory(output_dir)) return {};
  for (const fs::path& entry : directory_entries(output_dir)) {
    const auto number = checkpoint_number(entry);
    if (number && fs::is_directory(entry)) numbered.emplace_back(*number, entry);
  }
  std::sort(numbered.begin(), numbered.end());
  std::vector<fs::path> result;
  for (auto& [number, path] : numbered) result.push_back(std::move(path));
  return result;
}

void rotate_checkpoints(const fs::path& output_dir, std::int64_t limit) {
  const auto checkpoints = list_checkpoints(output_dir);
  const auto count = static_cast<std::int64_t>(checkpoints.size());
  for (std::int64_t i = 0; i < count - limit; ++i) {
    const fs::path& old = checkpoints[static_cast<std::size_t>(i)];
    if (!remove_tree(old))
      log::warn("{}: cannot be removed: {}", old.string(), std::strerror(errno));
  }
}

void write_checksums(const fs::path& directory) {
  Json json = Json::object();
  for (const fs::path& file : files_below(directory)) {
    json[file.lexically_relative(directory).string()] = {{"bytes", fs::file_size(file)},
                                                         {"fnv1a64", file_hash(file)}};
  }
  write_text(directory / kChecksums, json.dump(2) + "\n");
}

void verify_checksums(const fs::path& directory) {
  const fs::path list = directory / kChecksums;
  const Json json = read_json(list);
  for (const auto& [name, facts] : json.items()) {
    const fs::path file = directory / name;
    if (!fs::exists(file)) {
      fail("{}: this file of the checkpoint is missing; take another checkpoint", file.string());
    }
    if (file_hash(file) != json_get<std::string>(facts, "fnv1a64", list.string())) {
      fail(
          "{}: the file is not what the checkpoint wrote (its checksum differs); take another "
          "checkpoint",
          file.string());
    }
  }
}

}  // namespace qlora::train
