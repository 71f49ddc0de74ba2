#pragma once
// checkpoint-N directories. Each appears only when complete, loads in PEFT as it stands, and holds
// what an exact continuation needs:
//   adapter_model.safetensors, adapter_config.json   the adapter (PEFT)
//   tokenizer files, training_base.json              what it was trained with
//   optimizer.safetensors                            moments of AdamW
//   trainer_state.json                               position and counters (HF's fields and ours)
//   checksums.json                                   size and FNV-1a 64 of every other file
// Randomness is keyed by (seed, epoch, sample, position), so position and seed are its whole state.

#include "qlora/base/json.h"

#include <cstdint>
#include <filesystem>
#include <optional>
#include <vector>

namespace qlora::train {

// What trainer_state.json says beside the tensors. The middle group must be equal on resume.
struct TrainerState {
  std::int64_t global_step = 0;      // updates, skipped ones included
  std::int64_t optimizer_steps = 0;  // updates done
  double loss_scale = 1;
  std::int64_t good_steps = 0;

  std::int64_t seed = 0;
  std::int64_t data_seed = 0;
  std::int64_t samples = 0;
  std::int64_t batch_size = 0;
  std::int64_t accumulation = 0;
  bool group_by_length = false;
  bool packing = false;

  double epoch = 0;
  std::int64_t max_steps = 0;
};

Json to_json(const TrainerState& state);
TrainerState trainer_state_from_json(const Json& json, const std::string& where);

// Throws Error naming the first setting in which a continued run differs from its checkpoint.
void expect_same_run(const TrainerState& saved, const TrainerState& current,
                     const std::filesystem::path& checkpoint);

// The directories output_dir/checkpoint-N, ascending by N.
std::vector<std::filesystem::path> list_checkpoints(const std::filesystem::path& output_dir);

// Deletes the oldest checkpoints so that at most `limit` stay.
void rotate_checkpoints(const std::filesystem::path& output_dir, std::int64_t limit);

// Writes checksums.json over the files of a directory; verify throws Error naming a file that is
// missing or differs.
void write_checksums(const std::filesystem::path& directory);
void verify_checksums(const std::filesystem::path& directory);

}  // namespace qlora::train
