// Fine-tunes a language model as a configuration file says.

#include "qlora/base/log.h"
#include "qlora/config/command_line.h"
#include "qlora/config/config.h"
#include "qlora/tensor/bridge.h"
#include "qlora/tensor/device.h"
#include "qlora/train/training_run.h"

#include <unistd.h>

namespace {

using namespace qlora;

// Of a run that a signal ended after it saved: 128 + SIGINT, as a shell reports it.
constexpr int kInterrupted = 130;

struct TrainArguments {
  std::string config;
  std::vector<std::string> overrides;
  std::optional<std::string> resume;
  bool check = false;
  std::string device = "auto";

  template <class V>
  void visit(V&& v) {
    v.field("config", config, "the run's YAML file", Required{});
    v.field("overrides", overrides, "section.key=value, wins over the file", Positional{});
    v.field("resume", resume, "continue from a checkpoint directory, or from the newest (auto)",
            BareValue{"auto"});
    v.field("check", check, "validate everything, show what would be trained, train nothing");
    v.field("device", device, "where to run", OneOf{{"auto", "cpu", "cuda"}, ""});
  }
};

int train_model(const TrainArguments& arguments) {
  tensor::share_torch_threads();
  const auto config = config::read<train::RunConfig>(arguments.config, arguments.overrides);
  train::TrainingRun run(config, tensor::choose_device(arguments.device));
  if (arguments.check) {
    fmt::print("{}", run.describe(::isatty(STDOUT_FILENO) == 1));
    return 0;
  }
  train::Trainer trainer = run.make_trainer();
  if (arguments.resume) {
    const auto checkpoint = train::find_checkpoint(*arguments.resume, config.training.output_dir);
    if (checkpoint) trainer.resume(*checkpoint);
    log::info("{}", checkpoint ? "resuming from " + checkpoint->string()
                               : "no checkpoint yet; starting from the beginning");
  }
  return trainer.run() ? 0 : kInterrupted;
}

}  // namespace

int main(int argc, char** argv) {
  return config::run_main<TrainArguments>(
      argc, argv,
      {"Fine-tunes a language model with LoRA on a frozen, quantized base.",
       "Keys of the configuration file:\n" + config::help<train::RunConfig>()},
      train_model);
}
