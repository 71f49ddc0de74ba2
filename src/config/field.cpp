#include "qlora/config/field.h"

#include "qlora/base/error.h"
#include "qlora/base/json.h"
#include "qlora/base/text_util.h"

#include <algorithm>
#include <charconv>
#include <cmath>

namespace qlora::config {
namespace {

// YAML 1.1 digits may be grouped: 1_000.
std::optional<std::string> without_digit_groups(std::string_view text) {
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '_') {
      plain += text[i];
      continue;
    }
    const auto digit = [&](std::size_t at) {
      return at < text.size() && text[at] >= '0' && text[at] <= '9';
    };
    if (i == 0 || !digit(i - 1) || !digit(i + 1)) return std::nullopt;
  }
  if (plain.starts_with("+") && !plain.starts_with("+-")) plain.erase(0, 1);
  return plain;
}

template <class Number>
std::optional<Number> parse_number(const Value& value) {
  if (value.kind != Value::Kind::Text) return std::nullopt;
  const auto plain = without_digit_groups(value.text);
  if (!plain) return std::nullopt;
  Number number{};
  const char* end = plain->data() + plain->size();
  const auto [stop, error] = std::from_chars(plain->data(), end, number);
  if (error != std::errc{} || stop != end) return std::nullopt;
  return number;
}

bool allowed(double number, const Rules& rules) {
  if (!std::isfinite(number)) return false;
  if (rules.steps_or_share && (number <= 0 || (number >= 1 && number != std::floor(number)))) {
    return false;
  }
  if (!rules.range) return true;
  const Range& range = *rules.range;
  return (range.low_excluded ? number > range.low : number >= range.low) &&
         (range.high_excluded ? number < range.high : number <= range.high);
}

std::string with_range(std::string what, const Rules& rules) {
  if (rules.steps_or_share) return "a whole number of updates, or a share between 0 and 1";
  if (!rules.range) return what;
  const Range& range = *rules.range;
  const bool bounded_low = std::isfinite(range.low);
  const bool bounded_high = std::isfinite(range.high);
  if (bounded_low) {
    what += fmt::format("{} {}",
                        range.low_excluded ? " above"
                        : bounded_high     ? " from"
                                           : " of at least",
                        range.low);
  }
  if (bounded_high) {
    what += fmt::format("{} {}",
                        range.high_excluded ? " below"
                        : bounded_low       ? " to"
                                            : " of at most",
                        range.high);
  }
  return what;
}

std::string in_words(const Value& value) {
  constexpr std::size_t kLongest = 60;
  switch (value.kind) {
    case Value::Kind::Null: return "nothing (null)";
    case Value::Kind::Text:
      return value.text.size() <= kLongest
                 ? "'" + value.text + "'"
                 : "a text of " + std::to_string(value.text.size()) + " bytes";
    case Value::Kind::List: return "a list";
    case Value::Kind::Other: break;
  }
  return value.text;
}

// What the person probably meant, as the tail of an error; may be empty.
std::string hint(const Field& field, const Value& value) {
  if (field.rules.one_of && !field.rules.one_of->hint.empty())
    return "; " + field.rules.one_of->hint;
  if (value.kind != Value::Kind::Text) return "";
  if (field.is_bool) {
    static const std::vector<std::string> yes{"yes", "Yes",  "YES",  "on", "On",
                                              "ON",  "True", "TRUE", "y",  "1"};
    static const std::vector<std::string> no{"no",  "No",    "NO",    "off", "Off",
                                             "OFF", "False", "FALSE", "n",   "0"};
    if (std::ranges::count(yes, value.text) > 0) return "; write true";
    if (std::ranges::count(no, value.text) > 0) return "; write false";
  }
  const std::string near = nearest_name(value.text, field.choices);
  return near.empty() ? "" : "; did you mean " + near + "?";
}

}  // namespace

bool parse(const Value& value, const Rules& /*rules*/, bool& member) {
  if (value.kind != Value::Kind::Text || (value.text != "true" && value.text != "false"))
    return false;
  member = value.text == "true";
  return true;
}

bool parse(const Value& value, const Rules& rules, std::int64_t& member) {
  const auto number = parse_number<std::int64_t>(value);
  if (!number || !allowed(static_cast<double>(*number), rules)) return false;
  member = *number;
  return true;
}

bool parse(const Value& value, const Rules& rules, double& member) {
  const auto number = parse_number<double>(value);
  if (!number || !allowed(*number, rules)) return false;
  member = *number;
  return true;
}

bool parse(const Value& value, const Rules& rules, std::string& member) {
  if (value.kind != Value::Kind::Text || (rules.required && value.text.empty())) return false;
  if (rules.one_of && std::ranges::count(rules.one_of->values, value.text) == 0) return false;
  member = value.text;
  return true;
}

bool parse(const Value& value, const Rules& rules, std::vector<std::string>& member) {
  if (value.kind != Value::Kind::List || (rules.required && value.items.empty())) return false;
  member = value.items;
  return true;
}

bool parse(const Value& value, const Rules& rules, std::vector<double>& member) {
  if (value.kind != Value::Kind::List || (rules.required && value.items.empty())) return false;
  std::vector<double> numbers;
  for (const std::string& item : value.items) {
    if (!parse(Value::of_text(item), rules, numbers.emplace_back())) return false;
  }
  member = std::move(numbers);
  return true;
}

bool parse(const Value& value, const Rules& /*rules*/, StringOrList& member) {
  if (value.kind == Value::Kind::Text && !value.text.empty()) {
    member = value.text;
    return true;
  }
  if (value.kind != Value::Kind::List || value.items.empty()) return false;
  member = value.items;
  return true;
}

Value show(bool member) { return Value::of_text(member ? "true" : "false"); }
Value show(std::int64_t member) { return Value::of_text(std::to_string(member)); }
Value show(double member) { return Value::of_text(fmt::format("{}", member)); }
Value show(const std::string& member) { return Value::of_text(member); }
Value show(const std::vector<std::string>& member) { return Value::of_list(member); }
Value show(const std::vector<double>& member) {
  std::vector<std::string> items;
  for (const double number : member) items.push_back(fmt::format("{}", number));
  return Value::of_list(std::move(items));
}
Value show(const StringOrList& member) {
  return std::visit([](const auto& held) { return show(held); }, member);
}

std::string expected(const Rules& /*rules*/, const bool& /*member*/) { return "true or false"; }
std::string expected(const Rules& rules, const std::int64_t& /*member*/) {
  return with_range("a whole number", rules);
}
std::string expected(const Rules& rules, const double& /*member*/) {
  return with_range("a number", rules);
}
std::string expected(const Rules& rules, const std::string& /*member*/) {
  return rules.one_of ? expected_choice(rules.one_of->values) : "a text";
}
std::string expected(const Rules& /*rules*/, const std::vector<std::string>& /*member*/) {
  return "a list such as [a, b]";
}
std::string expected(const Rules& rules, const std::vector<double>& /*member*/) {
  return "a list such as [1, 0.5], each " + with_range("a number", rules);
}
std::string expected(const Rules& /*rules*/, const StringOrList& /*member*/) {
  return "a text or a list such as [a, b]";
}
std::string expected_choice(const std::vector<std::string>& choices) {
  if (choices.size() < 2) return join(choices);
  return join(std::span(choices).first(choices.size() - 1)) + " or " + choices.back();
}

std::string expected_entries(bool optional) {
  return fmt::format("a text, keys with values, or a list of these{}", optional ? ", or null" : "");
}

std::string entry_key(std::string_view list, std::size_t index) {
  return fmt::format("{}[{}]", list, index);
}

const Field* Schema::find(std::string_view key) const {
  const auto it = std::ranges::find(fields, key, &Field::key);
  return it == fields.end() ? nullptr : &*it;
}

bool Schema::has_section(std::string_view key) const {
  return std::ranges::find(sections, key, &Section::key) != sections.end();
}

const Field& Schema::positional() const {
  return *std::ranges::find_if(fields, [](const Field& field) { return field.rules.positional; });
}

void fail_value(const Field& field, const Value& value, std::string_view name,
                std::string_view where) {
  fail("{} ({}): expected {}, got {}{}", name, where, field.expected, in_words(value),
       hint(field, value));
}

void assign_or_fail(const Field& field, const Value& value, std::string_view name,
                    std::string_view where) {
  if (!field.assign(value)) fail_value(field, value, name, where);
}

std::string suggestion(std::string_view name, const std::vector<std::string>& known) {
  const std::string near = nearest_name(name, known);
  return near.empty() ? "known: " + join(known) : "did you mean " + near + "?";
}

}  // namespace qlora::config
