// The expressions of a chat template, with Python's operators.

#include "text/jinja_builtins.h"
#include "text/jinja_eval.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

namespace qlora::text::jinja {
namespace {

[[noreturn]] void refuse(std::string_view name, const Value& a, const Value& b) {
  for (const Value* side : {&a, &b}) {
    if (side->is(Kind::undefined)) raise("{} is undefined", side->undefined_name());
  }
  raise("'{}' does not work between {} and {}", name, type_name(a), type_name(b));
}

std::int64_t floor_divide(std::int64_t a, std::int64_t b) {
  const std::int64_t quotient = a / b;
  return a % b != 0 && (a < 0) != (b < 0) ? quotient - 1 : quotient;
}

std::int64_t integer_power(std::int64_t base, std::int64_t exponent) {
  std::int64_t result = 1;
  // Only 0, 1 and -1 outlive 64 steps without an overflow.
  for (std::int64_t i = 0; i < (exponent > 64 ? 64 + exponent % 2 : exponent); ++i) {
    if (__builtin_mul_overflow(result, base, &result)) raise("a number past 64 bits");
  }
  return result;
}

Value integer_operation(const std::string& name, std::int64_t a, std::int64_t b) {
  std::int64_t result = 0;
  bool overflow = false;
  if (name == "+") {
    overflow = __builtin_add_overflow(a, b, &result);
  } else if (name == "-") {
    overflow = __builtin_sub_overflow(a, b, &result);
  } else if (name == "*") {
    overflow = __builtin_mul_overflow(a, b, &result);
  } else if (name == "**") {
    if (b < 0) return Value::real(std::pow(static_cast<double>(a), static_cast<double>(b)));
    result = integer_power(a, b);
  } else {
    if (b == 0) raise("division by zero");
    if (name == "/") return Value::real(static_cast<double>(a) / static_cast<double>(b));
    overflow = a == std::numeric_limits<std::int64_t>::min() && b == -1;
    if (!overflow) result = name == "//" ? floor_divide(a, b) : a - b * floor_divide(a, b);
  }
  if (overflow) raise("a number past 64 bits");
  return Value::integer(result);
}

Value real_operation(const std::string& name, double a, double b) {
  if (name == "+") return Value::real(a + b);
  if (name == "-") return Value::real(a - b);
  if (name == "*") return Value::real(a * b);
  if (name == "**") return Value::real(std::pow(a, b));
  if (b == 0) raise("division by zero");
  if (name == "/") return Value::real(a / b);
  if (name == "//") return Value::real(std::floor(a / b));
  return Value::real(a - b * std::floor(a / b));
}

Value add_sequences(const Value& a, const Value& b) {
  Items items = a.as_items();
  items.insert(items.end(), b.as_items().begin(), b.as_items().end());
  return a.is(Kind::list) ? Value::list(std::move(items)) : Value::tuple(std::move(items));
}

Value repeat(const Value& value, std::int64_t times) {
  if (value.is(Kind::text)) {
    Text text;
    if (!value.as_text().empty()) {
      for (std::int64_t i = 0; i < times; ++i) text.append(value.as_text());
    }
    return Value::string(std::move(text));
  }
  Items items;
  const Items& part = value.as_items();
  for (std::int64_t i = 0; i < times && !part.empty(); ++i) {
    if (items.size() + part.size() > kMaxItems) raise("more than {} items", kMaxItems);
    items.insert(items.end(), part.begin(), part.end());
  }
  return value.is(Kind::list) ? Value::list(std::move(items)) : Value::tuple(std::move(items));
}

Value operate(const std::string& name, const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) {
    if (a.is(Kind::real) || b.is(Kind::real)) return real_operation(name, a.as_real(), b.as_real());
    return integer_operation(name, a.as_integer(), b.as_integer());
  }
  const auto repeats = [](const Value& part, const Value& count) {
    return (part.is(Kind::text) || part.is_sequence()) &&
           (count.is(Kind::integer) || count.is(Kind::boolean));
  };
  if (name == "+" && a.is(Kind::text) && b.is(Kind::text)) {
    Text text = a.as_text();
    text.append(b.as_text());
    return Value::string(std::move(text));
  }
  if (name == "+" && a.is_sequence() && a.kind() == b.kind()) return add_sequences(a, b);
  if (name == "*" && repeats(a, b)) return repeat(a, b.as_integer());
  if (name == "*" && repeats(b, a)) return repeat(b, a.as_integer());
  if (name == "%" && a.is(Kind::text)) return Value::string(percent_format(a.as_text(), b));
  refuse(name, a, b);
}

bool compare(const std::string& name, const Value& a, const Value& b) {
  if (name == "==") return equal(a, b);
  if (name == "!=") return !equal(a, b);
  if (name == "in") return contains(b, a);
  if (name == "not in") return !contains(b, a);
  if (a.is(Kind::undefined) || b.is(Kind::undefined)) refuse(name, a, b);
  if (name == "<") return less(a, b);
  if (name == ">") return less(b, a);
  if (name == "<=") return less(a, b) || equal(a, b);
  return less(b, a) || equal(a, b);
}

Value negate(const Value& value) {
  if (value.is(Kind::real)) return Value::real(-value.as_real());
  return integer_operation("-", 0, value.as_integer());
}

// The positions start, start + step ... that Python's slice visits among `size`.
std::vector<std::size_t> slice_positions(std::int64_t size,
                                         const std::optional<std::int64_t>& start,
                                         const std::optional<std::int64_t>& stop,
                                         std::int64_t step) {
  if (step == 0) raise("a slice with step 0");
  const std::int64_t low = step > 0 ? 0 : -1;
  const std::int64_t high = step > 0 ? size : size - 1;
  const auto clamp = [&](const std::optional<std::int64_t>& bound, std::int64_t fallback) {
    if (!bound) return fallback;
    const std::int64_t absolute = *bound < 0 ? std::max(*bound, -size - 1) + size : *bound;
    return std::clamp(absolute, low, std::max(low, high));
  };
  std::int64_t i = clamp(start, step > 0 ? low : high);
  const std::int64_t end = clamp(stop, step > 0 ? high : low);
  std::vector<std::size_t> positions;
  while (step > 0 ? i < end : i > end) {
    positions.push_back(static_cast<std::size_t>(i));
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  return positions;
}

}  // namespace

Value Interpreter::evaluate(const Expression& expression) {
  const Level level(*this);
  spend(1);
  line_ = expression.line;
  return compute(expression);
}

Value Interpreter::compute(const Expression& e) {
  switch (e.kind) {
    case ExpressionKind::literal: return e.value;
    case ExpressionKind::name: {
      const Value* found = find_variable(e.name);
      return found != nullptr ? *found : Value("'" + e.name + "'");
    }
    case ExpressionKind::list:
    case ExpressionKind::tuple:
    case ExpressionKind::dict: return evaluate_container(e);
    case ExpressionKind::attribute: return attribute(evaluate(*e.parts[0]), e.name);
    case ExpressionKind::item: return evaluate_item(e);
    case ExpressionKind::slice: raise("a slice outside [ ]");
    case ExpressionKind::call: return evaluate_call(e);
    case ExpressionKind::filter: {
      const Value subject = evaluate(*e.parts[0]);
      return apply_filter(e.name, subject, evaluate_arguments(e));
    }
    case ExpressionKind::test: {
      const Value subject = evaluate(*e.parts[0]);
      return Value::boolean(apply_test(e.name, subject, evaluate_arguments(e)));
    }
    case ExpressionKind::negation: return Value::boolean(!evaluate(*e.parts[0]).truthy());
    case ExpressionKind::minus: return negate(evaluate(*e.parts[0]));
    case ExpressionKind::plus: {
      const Value value = evaluate(*e.parts[0]);
      return value.is(Kind::real) ? value : Value::integer(value.as_integer());
    }
    case ExpressionKind::binary: {
      const Value left = evaluate(*e.parts[0]);
      const Value right = evaluate(*e.parts[1]);
      line_ = e.line;
      Value result = operate(e.name, left, right);
      spend(cost(result));
      return result;
    }
    case ExpressionKind::comparison: return evaluate_comparison(e);
    case ExpressionKind::conjunction: {
      Value left = evaluate(*e.parts[0]);
      return left.truthy() ? evaluate(*e.parts[1]) : left;
    }
    case ExpressionKind::disjunction: {
      Value left = evaluate(*e.parts[0]);
      return left.truthy() ? left : evaluate(*e.parts[1]);
    }
    case ExpressionKind::concat: return evaluate_concat(e);
    case ExpressionKind::condition: return evaluate_condition(e);
  }
  return Value::none();
}

Value Interpreter::evaluate_container(const Expression& expression) {
  Items items;
  for (const auto& part : expression.parts) items.push_back(evaluate(*part));
  if (expression.kind == ExpressionKind::list) return Value::list(std::move(items));
  if (expression.kind == ExpressionKind::tuple) return Value::tuple(std::move(items));
  Pairs pairs;
  for (std::size_t i = 0; i + 1 < items.size(); i += 2) {
    spend(pairs.size());
    const auto known = std::find_if(pairs.begin(), pairs.end(),
                                    [&](const auto& pair) { return equal(pair.first, items[i]); });
    if (known != pairs.end()) {
      known->second = items[i + 1];
    } else {
      pairs.emplace_back(items[i], items[i + 1]);
    }
  }
  return Value::dict(std::move(pairs));
}

Value Interpreter::evaluate_item(const Expression& expression) {
  const Value object = evaluate(*expression.parts[0]);
  const Expression& key = *expression.parts[1];
  if (key.kind == ExpressionKind::slice) return evaluate_slice(object, key);
  const Value index = evaluate(key);
  line_ = expression.line;
  return item(object, index);
}

Value Interpreter::evaluate_slice(const Value& object, const Expression& slice) {
  std::optional<std::int64_t> bounds[3];
  for (std::size_t i = 0; i < 3; ++i) {
    if (!slice.parts[i]) continue;
    const Value bound = evaluate(*slice.parts[i]);
    if (!bound.is(Kind::none)) bounds[i] = bound.as_integer();
  }
  line_ = slice.line;
  if (!object.is(Kind::text) && !object.is_sequence()) object.as_items();
  const std::int64_t step = bounds[2].value_or(1);
  const auto positions = slice_positions(length(object), bounds[0], bounds[1], step);
  spend(cost(object) + positions.size());
  if (!object.is(Kind::text)) {
    Items items;
    for (const std::size_t i : positions) items.push_back(object.as_items()[i]);
    return object.is(Kind::list) ? Value::list(std::move(items)) : Value::tuple(std::move(items));
  }
  const Text& text = object.as_text();
  const std::vector<std::size_t> offsets = code_points(text.bytes());
  if (positions.empty()) return Value::string("");
  if (step == 1) {
    return Value::string(
        text.bytes_between(offsets[positions.front()], offsets[positions.back() + 1]));
  }
  Text result;
  for (const std::size_t i : positions) {
    result.append(text.bytes_between(offsets[i], offsets[i + 1]));
  }
  return Value::string(std::move(result));
}

Arguments Interpreter::evaluate_arguments(const Expression& expression) {
  Arguments arguments;
  for (const auto& part : expression.arguments) arguments.positional.push_back(evaluate(*part));
  for (const auto& [name, part] : expression.keywords) {
    arguments.named.emplace_back(name, evaluate(*part));
  }
  line_ = expression.line;
  return arguments;
}

Value Interpreter::evaluate_call(const Expression& expression) {
  const Value function = evaluate(*expression.parts[0]);
  return call(function, evaluate_arguments(expression));
}

Value Interpreter::evaluate_comparison(const Expression& expression) {
  Value left = evaluate(*expression.parts[0]);
  for (std::size_t i = 0; i < expression.operators.size(); ++i) {
    Value right = evaluate(*expression.parts[i + 1]);
    line_ = expression.line;
    const bool search = expression.operators[i].ends_with("in") && right.is_sequence();
    spend(cost(right) + cost(left) * (search ? right.as_items().size() + 1 : 1));
    if (!compare(expression.operators[i], left, right)) return Value::boolean(false);
    left = std::move(right);
  }
  return Value::boolean(true);
}

Value Interpreter::evaluate_condition(const Expression& expression) {
  if (evaluate(*expression.parts[1]).truthy()) return evaluate(*expression.parts[0]);
  if (expression.parts[2]) return evaluate(*expression.parts[2]);
  return Value("an inline if without else");
}

Value Interpreter::evaluate_concat(const Expression& expression) {
  Text text;
  for (const auto& part : expression.parts) {
    text.append(to_text(evaluate(*part)));
    spend(text.size() / 8);
  }
  return Value::string(std::move(text));
}

Value Interpreter::attribute(const Value& object, const std::string& name) {
  if (object.is(Kind::undefined)) raise("{} is undefined", object.undefined_name());
  if (const Builtin* method = find_method(object, name)) {
    const auto bound = [object, method](Interpreter& self, const Arguments& arguments) {
      return call_builtin(*method, "method", self, object, arguments);
    };
    return Value::function(bound, object.depth());
  }
  if (object.is(Kind::function)) raise("a function's '{}' is not known here", name);
  if (object.is_mapping()) {
    if (const Value* found = object.find(std::string_view(name))) return *found;
  }
  if (const Value* found = object.member(name)) return *found;
  return Value("'" + name + "'");
}

Value Interpreter::item(const Value& object, const Value& key) {
  if (object.is(Kind::undefined)) raise("{} is undefined", object.undefined_name());
  spend(object.is(Kind::text) ? cost(object) : cost(object) / 16);
  if (object.is(Kind::dict)) {
    if (const Value* found = object.find(key)) return *found;
  }
  if (key.is(Kind::text)) return attribute(object, key.as_text().bytes());
  const bool indexed = object.is(Kind::text) || object.is_sequence();
  if (!indexed || !(key.is(Kind::integer) || key.is(Kind::boolean))) {
    return Value("'" + to_text(key).bytes().substr(0, 40) + "'");
  }
  const std::vector<std::size_t> offsets =
      object.is(Kind::text) ? code_points(object.as_text().bytes()) : std::vector<std::size_t>();
  const std::int64_t size = offsets.empty() ? length(object) : std::ssize(offsets) - 1;
  const std::int64_t index = key.as_integer() < 0 ? key.as_integer() + size : key.as_integer();
  if (index < 0 || index >= size) return Value(fmt::format("item {}", key.as_integer()));
  const auto i = static_cast<std::size_t>(index);
  if (!object.is(Kind::text)) return object.as_items()[i];
  return Value::string(object.as_text().bytes_between(offsets[i], offsets[i + 1]));
}

}  // namespace qlora::text::jinja
