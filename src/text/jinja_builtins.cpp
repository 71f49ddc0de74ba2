// The global functions of chat templates, and what all callables share.

#include "text/jinja_builtins.h"

#include "text/jinja_eval.h"

#include <algorithm>
#include <ctime>

namespace qlora::text::jinja {

bool flag_argument(const Arguments& arguments, std::size_t position, std::string_view name,
                   bool fallback) {
  const Value* given = arguments.find(position, name);
  return given != nullptr ? given->truthy() : fallback;
}

std::int64_t integer_argument(const Arguments& arguments, std::size_t position,
                              std::string_view name, std::int64_t fallback) {
  const Value* given = arguments.find(position, name);
  return given != nullptr && !given->is(Kind::none) ? given->as_integer() : fallback;
}

std::optional<std::string> text_argument(const Arguments& arguments, std::size_t position,
                                         std::string_view name) {
  const Value* given = arguments.find(position, name);
  if (given == nullptr || given->is(Kind::none)) return std::nullopt;
  return given->as_text().bytes();
}

const Value& required_argument(const Arguments& arguments, std::size_t position,
                               std::string_view name) {
  const Value* given = arguments.find(position, name);
  if (given == nullptr) raise("the argument '{}' is missing", name);
  return *given;
}

Value call_builtin(const Builtin& builtin, std::string_view kind, Interpreter& interpreter,
                   const Value& subject, const Arguments& arguments) {
  const Text parameters(std::string(builtin.parameters));
  const std::vector<Text> names = split(parameters, nullptr, -1);
  const bool any = !names.empty() && names.back().bytes() == "*";
  if (!any && arguments.positional.size() > names.size()) {
    raise("{} '{}' takes {} arguments, got {}", kind, builtin.name, names.size(),
          arguments.positional.size());
  }
  for (const auto& [name, value] : arguments.named) {
    const bool known = std::any_of(names.begin(), names.end(),
                                   [&](const Text& text) { return text.bytes() == name; });
    if (!known && !any) raise("{} '{}' has no argument '{}'", kind, builtin.name, name);
  }
  interpreter.spend(cost(subject));
  for (const Value& argument : arguments.positional) interpreter.spend(cost(argument));
  Value result = builtin.call(interpreter, subject, arguments);
  interpreter.spend(cost(result));
  return result;
}

namespace {

// Global functions.

Value range(Interpreter& self, const Arguments& arguments) {
  const auto count = arguments.positional.size();
  if (count < 1 || count > 3) raise("range takes 1 to 3 arguments, got {}", count);
  const auto at = [&](std::size_t i) { return arguments.positional[i].as_integer(); };
  const std::int64_t start = count > 1 ? at(0) : 0;
  const std::int64_t stop = count > 1 ? at(1) : at(0);
  const std::int64_t step = count > 2 ? at(2) : 1;
  if (step == 0) raise("range: step 0");
  Items items;
  for (std::int64_t i = start; step > 0 ? i < stop : i > stop;) {
    if (items.size() == 100'000) raise("range: more than 100000 numbers");  // Jinja's own limit
    self.spend(1);
    items.push_back(Value::integer(i));
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  return Value::list(std::move(items));
}

Pairs named_pairs(const Arguments& arguments) {
  Pairs pairs;
  for (const Value& base : arguments.positional) {
    for (const auto& pair : base.as_pairs()) pairs.push_back(pair);
  }
  for (const auto& [name, value] : arguments.named) {
    const auto same = [&name](const auto& pair) {
      return pair.first.is(Kind::text) && pair.first.as_text().bytes() == name;
    };
    std::erase_if(pairs, same);
    pairs.emplace_back(Value::string(name), value);
  }
  return pairs;
}

Value make_namespace(Interpreter&, const Arguments& arguments) {
  return Value::name_space(named_pairs(arguments));
}

Value make_dict(Interpreter&, const Arguments& arguments) {
  return Value::dict(named_pairs(arguments));
}

Value raise_exception(Interpreter&, const Arguments& arguments) {
  raise("the template refuses this conversation: {}",
        to_text(required_argument(arguments, 0, "message")).bytes());
}

Value strftime_now(Interpreter&, const Arguments& arguments) {
  const std::string format = required_argument(arguments, 0, "format").as_text().bytes();
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  char buffer[256];
  const std::size_t written = std::strftime(buffer, sizeof buffer, format.c_str(), &local);
  return Value::string(std::string(buffer, written));
}

}  // namespace

Pairs global_functions() {
  Pairs pairs;
  const auto add = [&pairs](const char* name, Body body) {
    pairs.emplace_back(Value::string(name), Value::function(std::move(body)));
  };
  add("range", range);
  add("namespace", make_namespace);
  add("dict", make_dict);
  add("raise_exception", raise_exception);
  add("strftime_now", strftime_now);
  return pairs;
}

}  // namespace qlora::text::jinja
