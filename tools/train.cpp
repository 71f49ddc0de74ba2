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
  std::int64_t samples = 3;
  std::optional<std::string> json;
  std::string device = "auto";

  template <class V>
  void visit(V&& v) {
    v.field("config", config, "the run's YAML file", Required{});
    v.field("overrides", overrides, "section.key=value, wins over the file", Positional{});
    v.field("resume", resume, "continue from a checkpoint directory, or from the newest (auto)",
            BareValue{"auto"});
    v.field("check", check, "validate everything, show what would be trained, train nothing");
    v.field("samples", samples, "how many samples --check shows", at_least(0));
    v.field("json", json,
            "with --check: a file to write what it shows to, and every sample's ids and labels");
    v.check(check || !json, "json", "expected together with --check");
    v.field("device", device, "where to run", OneOf{{"auto", "cpu", "cuda"}, ""});
  }
};

int train_model(const TrainArguments& arguments) {
  tensor::share_torch_threads();
  const auto config = config::read<train::RunConfig>(arguments.config, arguments.overrides);
  train::TrainingRun run(config, tensor::choose_device(arguments.device));
  if (arguments.check) {
    if (arguments.json) run.write_samples(*arguments.json);
    fmt::print("{}", run.describe({.colour = ::isatty(STDOUT_FILENO) == 1,
                                   .max_samples = arguments.samples}));
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
