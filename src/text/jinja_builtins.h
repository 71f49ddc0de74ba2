#pragma once
// What a chat template can call: filters, tests, methods and global functions, each a table row.

#include "text/jinja_value.h"

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>

namespace qlora::text::jinja {

// One callable of a table. `parameters` are its arguments' names behind the subject, separated by
// spaces; a closing "*" allows any more.
struct Builtin {
  std::string_view name;
  std::string_view parameters;
  Value (*call)(Interpreter&, const Value& subject, const Arguments&);
};

template <std::size_t size>
const Builtin* find_row(const Builtin (&rows)[size], std::string_view name) {
  const auto found = std::ranges::find(rows, name, &Builtin::name);
  return found == std::end(rows) ? nullptr : found;
}

// Null where the name is unknown.
const Builtin* find_filter(std::string_view name);
const Builtin* find_list_filter(std::string_view name);  // those of find_filter that take lists
const Builtin* find_test(std::string_view name);
// The method of a value's type.
const Builtin* find_method(const Value& subject, std::string_view name);

// Python's `format % values`: a tuple's items, a dict's by name, or one value.
Text percent_format(const Text& format, const Value& values);

// Calls after a check of the arguments' number and names; throws Failure.
Value call_builtin(const Builtin& builtin, std::string_view kind, Interpreter& interpreter,
                   const Value& subject, const Arguments& arguments);

// range, namespace, dict, raise_exception, strftime_now.
Pairs global_functions();

// Arguments with Python's conversions; the fallback where absent.
bool flag_argument(const Arguments& arguments, std::size_t position, std::string_view name,
                   bool fallback);
std::int64_t integer_argument(const Arguments& arguments, std::size_t position,
                              std::string_view name, std::int64_t fallback);
// The text of a str argument; empty where it is absent or None.
std::optional<std::string> text_argument(const Arguments& arguments, std::size_t position,
                                         std::string_view name);
// As above, but throws Failure where it is absent.
const Value& required_argument(const Arguments& arguments, std::size_t position,
                               std::string_view name);

}  // namespace qlora::text::jinja
