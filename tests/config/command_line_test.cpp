#include "qlora/config/command_line.h"

#include "support/message.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <stdexcept>

namespace qlora::config {
namespace {

using test::message_of;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

enum class Device { Auto, Cpu, Cuda };
constexpr std::array<EnumName<Device>, 3> enum_names(Device /*tag*/) {
  return {{{Device::Auto, "auto"}, {Device::Cpu, "cpu"}, {Device::Cuda, "cuda"}}};
}

struct Arguments {
  std::string config;
  std::vector<std::string> overrides;
  std::optional<std::string> resume;
  bool check = false;
  Device device = Device::Auto;
  std::int64_t steps = 10;
  std::vector<std::string> stop;

  template <class V>
  void visit(V&& v) {
    v.field("config", config, "the run's configuration file", Required{});
    v.field("overrides", overrides, "section.key=value", Positional{});
    v.field("resume", resume, "continue from a checkpoint", BareValue{"auto"});
    v.field("check", check, "validate only");
    v.field("device", device, "where to run");
    v.field("steps", steps, "how many", at_least(-1));
    v.field("stop", stop, "texts that end the answer");
    v.check(!(check && resume), "check", "expected --check or --resume, got both");
  }
};

std::optional<Arguments> parse_words(std::vector<const char*> words) {
  words.insert(words.begin(), "bin/train");
  return parse_command_line<Arguments>(static_cast<int>(words.size()), words.data(), {"Trains."});
}

std::string error_of(std::vector<const char*> words) {
  return message_of([&] { parse_words(words); });
}

TEST(CommandLineTest, ReadsOptionsFlagsAndOverrides) {
  const auto arguments = parse_words({"--config", "a.yaml", "training.max_steps=2", "--check",
                                      "--device", "cpu", "--steps", "-1", "lora.r=8"});
  ASSERT_TRUE(arguments);
  EXPECT_EQ(arguments->config, "a.yaml");
  EXPECT_THAT(arguments->overrides, ElementsAre("training.max_steps=2", "lora.r=8"));
  EXPECT_TRUE(arguments->check);
  EXPECT_EQ(arguments->device, Device::Cpu);
  EXPECT_EQ(arguments->steps, -1);
  EXPECT_FALSE(arguments->resume);
}

TEST(CommandLineTest, DefaultsStay) {
  const auto arguments = parse_words({"--config=a.yaml"});
  ASSERT_TRUE(arguments);
  EXPECT_FALSE(arguments->check);
  EXPECT_EQ(arguments->device, Device::Auto);
  EXPECT_THAT(arguments->overrides, ElementsAre());
}

TEST(CommandLineTest, ABareOptionStandsForItsValue) {
  EXPECT_EQ(parse_words({"--config", "a", "--resume"})->resume, "auto");
  EXPECT_EQ(parse_words({"--resume", "--config", "a"})->resume, "auto");
  EXPECT_EQ(parse_words({"--config", "a", "--resume", "auto"})->resume, "auto");
  EXPECT_EQ(parse_words({"--config", "a", "--resume", "out/checkpoint-2"})->resume,
            "out/checkpoint-2");
  EXPECT_EQ(parse_words({"--config", "a", "--resume=out=1/checkpoint-2"})->resume,
            "out=1/checkpoint-2");
  const auto arguments = parse_words({"--config", "a", "--resume", "training.max_steps=4"});
  EXPECT_EQ(arguments->resume, "auto");
  EXPECT_THAT(arguments->overrides, ElementsAre("training.max_steps=4"));
}

TEST(CommandLineTest, AListOptionMayBeRepeated) {
  const auto arguments = parse_words({"--config", "a", "--stop", "x y", "--stop", "z", "--check"});
  EXPECT_THAT(arguments->stop, ElementsAre("x y", "z"));
  EXPECT_TRUE(arguments->check);
}

TEST(CommandLineTest, UnknownOptionsComeWithTheNearestName) {
  EXPECT_EQ(error_of({"--confg", "a.yaml"}),
            "--confg (command line): unknown option; did you mean --config?");
  EXPECT_EQ(
      error_of({"--config", "a", "--zzzzzzzzz=3"}),
      "--zzzzzzzzz (command line): unknown option; known: --help, --config, --resume, --check, "
      "--device, --steps, --stop");
}

TEST(CommandLineTest, SaysWhatIsMissingOrWrong) {
  EXPECT_EQ(error_of({}),
            "--config (command line): missing; expected a text: the run's configuration file");
  EXPECT_EQ(error_of({"--config", "a", "--device", "gpu"}),
            "--device (command line): expected auto, cpu or cuda, got 'gpu'; did you mean cpu?");
  EXPECT_EQ(error_of({"--config", "a", "--steps", "-2"}),
            "--steps (command line): expected a whole number of at least -1, got '-2'");
  EXPECT_EQ(error_of({"--config", "a", "--config", "b"}), "--config (command line): given twice");
  EXPECT_EQ(error_of({"--config", "a", "--check", "--resume"}),
            "--check (command line): expected --check or --resume, got both");
  EXPECT_THAT(error_of({"--config"}), HasSubstr("--config"));
}

struct FileArguments {
  std::string file;
  template <class V>
  void visit(V&& v) {
    v.field("file", file, "what to look into", Positional{}, Required{});
  }
};

TEST(CommandLineTest, APositionalWordNeedsNoName) {
  const auto parse_file = [](std::vector<const char*> words) {
    words.insert(words.begin(), "inspect");
    const int count = static_cast<int>(words.size());
    return parse_command_line<FileArguments>(count, words.data(), {"Inspects."})->file;
  };
  EXPECT_EQ(parse_file({"a.gguf"}), "a.gguf");
  EXPECT_EQ(message_of([&] { parse_file({}); }),
            "file (command line): missing; expected a text: what to look into");
  EXPECT_EQ(message_of([&] {
              parse_file({"a.gguf", "b.gguf"});
            }),
            "'b.gguf' (command line): not expected here; see --help");
}

TEST(CommandLineTest, HelpIsPrintedAndNothingRuns) {
  ::testing::internal::CaptureStdout();
  const auto arguments = parse_words({"--help"});
  const std::string text = ::testing::internal::GetCapturedStdout();
  EXPECT_FALSE(arguments);
  for (const char* part : {"Trains.", "--config", "the run's configuration file (required)",
                           "--resume", "--device auto|cpu|cuda", "overrides", "how many (10)"}) {
    EXPECT_THAT(text, HasSubstr(part));
  }
}

int run_words(std::vector<const char*> words, const std::function<int(const Arguments&)>& body) {
  words.insert(words.begin(), "train");
  return run_main<Arguments>(static_cast<int>(words.size()), words.data(), {"Trains."}, body);
}

TEST(RunMainTest, PrintsOneLineAndReturnsOne) {
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(run_words({"--config", "a"}, [](const Arguments&) { return 3; }), 3);
  EXPECT_EQ(run_words({"--confg"}, [](const Arguments&) { return 0; }), 1);
  EXPECT_EQ(run_words({"--config", "a"}, [](const Arguments&) -> int { fail("a.yaml: broken"); }),
            1);
  EXPECT_EQ(run_words({"--config", "a"},
                      [](const Arguments&) -> int { throw std::runtime_error("first\nsecond"); }),
            1);
  EXPECT_EQ(run_words({"--config", "a"}, [](const Arguments&) -> int { throw std::bad_alloc(); }),
            1);
  EXPECT_EQ(::testing::internal::GetCapturedStderr(),
            "error: --confg (command line): unknown option; did you mean --config?\n"
            "error: a.yaml: broken\nerror: first\nerror: out of memory\n");
}

}  // namespace
}  // namespace qlora::config
