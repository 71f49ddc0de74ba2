#include "qlora/train/checkpoint.h"

#include "qlora/base/error.h"
#include "qlora/base/file.h"
#include "qlora/train/training_run.h"
#include "support/test_data.h"

namespace qlora::train {
namespace {

namespace fs = std::filesystem;

TEST(Checkpoint, ListsByNumberAndRotates) {
  const fs::path folder = test::fresh_folder("rotate");
  for (const char* name : {"checkpoint-9", "checkpoint-10", "checkpoint-100", "checkpoint-x",
                           "checkpoint-", "other"}) {
    fs::create_directories(folder / name);
  }
  const auto found = list_checkpoints(folder);
  ASSERT_EQ(found.size(), 3u);
  EXPECT_EQ(found[0].filename(), "checkpoint-9");
  EXPECT_EQ(found[2].filename(), "checkpoint-100");
  rotate_checkpoints(folder, 2);
  EXPECT_FALSE(fs::exists(folder / "checkpoint-9"));
  EXPECT_TRUE(fs::exists(folder / "checkpoint-10"));
  EXPECT_TRUE(fs::exists(folder / "checkpoint-x"));
  EXPECT_EQ(find_checkpoint("auto", folder)->filename(), "checkpoint-100");
  EXPECT_FALSE(find_checkpoint("auto", folder / "other"));
  EXPECT_THROW(find_checkpoint("no/such", folder), Error);
}

TEST(Checkpoint, ChecksumsFindAChangedAndAMissingFile) {
  const fs::path folder = test::fresh_folder("checksums");
  write_text(folder / "a", "one");
  write_text(folder / "b", "two");
  write_checksums(folder);
  EXPECT_NO_THROW(verify_checksums(folder));
  write_text(folder / "b", "tow");
  EXPECT_THROW(verify_checksums(folder), Error);
  fs::remove(folder / "b");
  EXPECT_THROW(verify_checksums(folder), Error);
}

TEST(Checkpoint, StateGoesThroughJson) {
  TrainerState state;
  state.global_step = 7;
  state.optimizer_steps = 6;
  state.loss_scale = 1024;
  state.group_by_length = true;
  state.packing = true;
  state.epoch = 1.25;
  const TrainerState back = trainer_state_from_json(to_json(state), "state");
  EXPECT_EQ(to_json(back), to_json(state));
  EXPECT_THROW(trainer_state_from_json(Json::object(), "state"), Error);
}

TEST(Checkpoint, AnotherRunsSettingsAreNamed) {
  TrainerState saved;
  TrainerState current;
  EXPECT_NO_THROW(expect_same_run(saved, current, "c"));
  current.packing = true;
  EXPECT_THROW(expect_same_run(saved, current, "c"), Error);
  current = {};
  current.accumulation = 4;
  try {
    expect_same_run(saved, current, "c");
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("gradient_accumulation_steps"), std::string::npos);
  }
}

}  // namespace
}  // namespace qlora::train
