#pragma once
// The command line of a program, described by a settings struct: each field is an option of its
// name (--max_new_tokens), a bool a flag; Positional and BareValue (qlora/base/constraints.h) say
// the rest. A program's main is one call:
//
//   int main(int argc, char** argv) {
//     return config::run_main<TrainArguments>(argc, argv, {"Fine-tunes a model."}, train_model);
//   }

#include "qlora/config/field.h"

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace qlora::config {

struct ProgramInfo {
  std::string about;      // what the program does, one sentence
  std::string more = "";  // follows the options in --help
};

// Sets the described struct. False where --help was asked for and printed to standard output.
// Throws Error: unknown option (with the nearest name), missing or wrong value.
bool apply_command_line(const Schema& schema, int argc, const char* const* argv,
                        const ProgramInfo& info);

// Throws Error for the first problem, if any.
void report_command_line(std::span<const Problem> problems);

// Nothing where --help was asked for.
template <class T>
std::optional<T> parse_command_line(int argc, const char* const* argv, const ProgramInfo& info) {
  T arguments;
  if (!apply_command_line(describe(arguments), argc, argv, info)) return std::nullopt;
  report_command_line(broken_rules(arguments));
  return arguments;
}

// The body's exit code; any exception becomes one line "error: ..." on standard error and 1.
int run_guarded(const std::function<int()>& body);

// Parses the command line and runs `body(const Arguments&)`, which returns the exit code.
template <class Arguments, class Body>
int run_main(int argc, const char* const* argv, const ProgramInfo& info, Body&& body) {
  return run_guarded([&] {
    const auto arguments = parse_command_line<Arguments>(argc, argv, info);
    return arguments ? static_cast<int>(body(*arguments)) : 0;
  });
}

}  // namespace qlora::config
