#include "qlora/config/command_line.h"

#include "qlora/base/error.h"
#include "qlora/base/log.h"
#include "qlora/base/text_util.h"

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <new>

namespace qlora::config {
namespace {

constexpr std::string_view kCommandLine = "command line";

std::string shown_name(const Field& field) {
  return field.rules.positional ? field.key : "--" + field.key;
}

bool is_override(std::string_view text) {
  const auto in_key = [](unsigned char c) { return std::isalnum(c) != 0 || c == '_' || c == '.'; };
  const std::string_view key = text.substr(0, text.find('='));
  return key.size() < text.size() && key.find('.') != std::string_view::npos &&
         std::ranges::all_of(key, in_key);
}

// --resume alone, before another option or before an override becomes --resume=auto.
std::vector<std::string> with_bare_values(const Schema& schema, std::vector<std::string> words) {
  for (std::size_t i = 0; i < words.size(); ++i) {
    const auto field = std::ranges::find(schema.fields, words[i], shown_name);
    if (field == schema.fields.end() || !field->rules.bare_value) continue;
    const bool bare =
        i + 1 == words.size() || words[i + 1].starts_with('-') || is_override(words[i + 1]);
    if (bare) words[i] += "=" + *field->rules.bare_value;
  }
  return words;
}

std::string placeholder(const Field& field) {
  if (!field.choices.empty()) return fmt::format("{}", fmt::join(field.choices, "|"));
  if (field.rules.bare_value) return "[TEXT]";
  if (field.expected.starts_with("a whole number")) return "INTEGER";
  return field.expected.starts_with("a number") ? "NUMBER" : "TEXT";
}

std::string described(const Field& field) {
  if (field.rules.required) return field.help + " (required)";
  const Value value = field.shown();
  const bool has_default = value.kind == Value::Kind::Text && !value.text.empty() && !field.is_bool;
  return has_default ? fmt::format("{} ({})", field.help, value.text) : field.help;
}

CLI::Option* declare(CLI::App& app, const Field& field, std::vector<std::string>& words) {
  if (field.is_bool && !field.rules.positional)
    return app.add_flag(shown_name(field))->description(described(field));
  CLI::Option* option = app.add_option(shown_name(field), words, described(field));
  if (field.rules.positional && field.is_list) return option->type_name("...");
  // One word each time it is named, so that positional words may follow.
  option->expected(1)->allow_extra_args(false);
  option->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)->type_name(placeholder(field));
  return option;
}

void assign(const Field& field, const std::vector<std::string>& words) {
  if (field.is_list) {
    assign_or_fail(field, Value::of_list(words), shown_name(field), kCommandLine);
    return;
  }
  if (words.size() > 1) fail("{} (command line): given twice", shown_name(field));
  assign_or_fail(field, Value::of_text(words.front()), shown_name(field), kCommandLine);
}

void refuse_extras(const Schema& schema, const std::vector<std::string>& extras) {
  if (extras.empty()) return;
  const std::string name = extras.front().substr(0, extras.front().find('='));
  if (!name.starts_with('-')) fail("'{}' (command line): not expected here; see --help", name);
  std::vector<std::string> known{"--help"};
  for (const Field& field : schema.fields) {
    if (!field.rules.positional) known.push_back(shown_name(field));
  }
  fail("{} (command line): unknown option; {}", name, suggestion(name, known));
}

std::string first_line(std::string_view text) {
  return std::string(text.substr(0, text.find('\n')));
}

}  // namespace

bool apply_command_line(const Schema& schema, int argc, const char* const* argv,
                        const ProgramInfo& info) {
  CLI::App app(info.about, std::filesystem::path(argv[0]).filename().string());
  app.footer(info.more);
  app.allow_extras();
  std::vector<std::vector<std::string>> words(schema.fields.size());
  std::vector<CLI::Option*> options;
  for (std::size_t i = 0; i < words.size(); ++i) {
    options.push_back(declare(app, schema.fields[i], words[i]));
  }
  std::vector<std::string> given = with_bare_values(schema, {argv + 1, argv + argc});
  std::ranges::reverse(given);  // CLI11 takes them from the back
  try {
    app.parse(given);
  } catch (const CLI::CallForHelp&) {
    fmt::print("{}", app.help());
    return false;
  } catch (const CLI::ParseError& error) {
    fail("{} (command line)", first_line(error.what()));
  }
  refuse_extras(schema, app.remaining());
  for (std::size_t i = 0; i < words.size(); ++i) {
    const Field& field = schema.fields[i];
    if (options[i]->count() > 0) {
      assign(field, field.is_bool ? std::vector<std::string>{"true"} : words[i]);
    } else if (field.rules.required) {
      fail("{} (command line): missing; expected {}: {}", shown_name(field), field.expected,
           field.help);
    }
  }
  return true;
}

void report_command_line(std::span<const Problem> problems) {
  if (problems.empty()) return;
  fail("--{} (command line): {}", problems.front().key, problems.front().text);
}

int run_guarded(const std::function<int()>& body) {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    log::write_line("error: ", "out of memory");
  } catch (const std::exception& error) {
    log::write_line("error: ", first_line(error.what()));
  }
  return 1;
}

}  // namespace qlora::config
