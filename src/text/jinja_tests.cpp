// The tests of chat templates (`x is defined`).

#include "text/jinja_builtins.h"
#include "text/jinja_eval.h"

#include <algorithm>

namespace qlora::text::jinja {
namespace {

template <Kind... kinds>
Value is_kind(Interpreter&, const Value& value, const Arguments&) {
  return Value::boolean((value.is(kinds) || ...));
}
Value is_defined(Interpreter&, const Value& value, const Arguments&) {
  return Value::boolean(!value.is(Kind::undefined));
}
Value is_mapping(Interpreter&, const Value& value, const Arguments&) {
  return Value::boolean(value.is(Kind::dict));
}
// Python's sense: whatever has a length and items.
Value is_sequence(Interpreter&, const Value& value, const Arguments&) {
  return Value::boolean(value.is(Kind::text) || value.is_sequence() || value.is(Kind::dict));
}
Value is_iterable(Interpreter&, const Value& value, const Arguments&) {
  const bool iterable = value.is(Kind::text) || value.is_sequence() || value.is(Kind::dict) ||
                        value.is(Kind::undefined);
  return Value::boolean(iterable);
}
Value is_number(Interpreter&, const Value& value, const Arguments&) {
  return Value::boolean(value.is_number());
}
template <bool wanted>
Value is_flag(Interpreter&, const Value& value, const Arguments&) {
  return Value::boolean(value.is(Kind::boolean) && value.truthy() == wanted);
}
Value is_equal(Interpreter&, const Value& value, const Arguments& arguments) {
  return Value::boolean(equal(value, required_argument(arguments, 0, "other")));
}
Value is_unequal(Interpreter&, const Value& value, const Arguments& arguments) {
  return Value::boolean(!equal(value, required_argument(arguments, 0, "other")));
}
Value is_less(Interpreter&, const Value& value, const Arguments& arguments) {
  return Value::boolean(less(value, required_argument(arguments, 0, "other")));
}
Value is_greater(Interpreter&, const Value& value, const Arguments& arguments) {
  return Value::boolean(less(required_argument(arguments, 0, "other"), value));
}
Value is_at_most(Interpreter&, const Value& value, const Arguments& arguments) {
  const Value& other = required_argument(arguments, 0, "other");
  return Value::boolean(less(value, other) || equal(value, other));
}
Value is_at_least(Interpreter&, const Value& value, const Arguments& arguments) {
  const Value& other = required_argument(arguments, 0, "other");
  return Value::boolean(less(other, value) || equal(value, other));
}
Value is_in(Interpreter&, const Value& value, const Arguments& arguments) {
  return Value::boolean(contains(required_argument(arguments, 0, "seq"), value));
}
Value is_same(Interpreter&, const Value& value, const Arguments& arguments) {
  return Value::boolean(value.same(required_argument(arguments, 0, "other")));
}
Value is_filter(Interpreter&, const Value& value, const Arguments&) {
  return Value::boolean(value.is(Kind::text) && find_filter(value.as_text().bytes()) != nullptr);
}
Value is_test(Interpreter&, const Value& value, const Arguments&) {
  return Value::boolean(value.is(Kind::text) && find_test(value.as_text().bytes()) != nullptr);
}
template <int rest>
Value is_parity(Interpreter&, const Value& value, const Arguments&) {
  return Value::boolean((value.as_integer() % 2 != 0) == (rest == 1));
}
Value is_divisible(Interpreter&, const Value& value, const Arguments& arguments) {
  const std::int64_t divisor = required_argument(arguments, 0, "num").as_integer();
  if (divisor == 0) raise("division by zero");
  return Value::boolean(divisor == -1 || value.as_integer() % divisor == 0);
}
template <Case to>
Value is_case(Interpreter&, const Value& value, const Arguments&) {
  const Text text = to_text(value);
  const Case other = to == Case::lower ? Case::upper : Case::lower;
  return Value::boolean(change_case(text, to).bytes() == text.bytes() &&
                        change_case(text, other).bytes() != text.bytes());
}

constexpr Builtin kTests[] = {
    {"!=", "other", is_unequal},
    {"<", "other", is_less},
    {"<=", "other", is_at_most},
    {"==", "other", is_equal},
    {">", "other", is_greater},
    {">=", "other", is_at_least},
    {"boolean", "", is_kind<Kind::boolean>},
    {"callable", "", is_kind<Kind::function>},
    {"defined", "", is_defined},
    {"divisibleby", "num", is_divisible},
    {"eq", "other", is_equal},
    {"equalto", "other", is_equal},
    {"even", "", is_parity<0>},
    {"false", "", is_flag<false>},
    {"filter", "", is_filter},
    {"float", "", is_kind<Kind::real>},
    {"ge", "other", is_at_least},
    {"greaterthan", "other", is_greater},
    {"gt", "other", is_greater},
    {"in", "seq", is_in},
    {"integer", "", is_kind<Kind::integer>},
    {"iterable", "", is_iterable},
    {"le", "other", is_at_most},
    {"lessthan", "other", is_less},
    {"lower", "", is_case<Case::lower>},
    {"lt", "other", is_less},
    {"mapping", "", is_mapping},
    {"ne", "other", is_unequal},
    {"none", "", is_kind<Kind::none>},
    {"number", "", is_number},
    {"odd", "", is_parity<1>},
    {"sameas", "other", is_same},
    {"sequence", "", is_sequence},
    {"string", "", is_kind<Kind::text>},
    {"test", "", is_test},
    {"true", "", is_flag<true>},
    {"undefined", "", is_kind<Kind::undefined>},
    {"upper", "", is_case<Case::upper>},
};

}  // namespace

const Builtin* find_test(std::string_view name) { return find_row(kTests, name); }

}  // namespace qlora::text::jinja
