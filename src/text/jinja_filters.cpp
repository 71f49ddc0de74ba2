// The filters of chat templates for texts and numbers; each row of the table at the end is one.

#include "text/jinja_builtins.h"
#include "text/jinja_eval.h"

#include <algorithm>
#include <charconv>
#include <cmath>

namespace qlora::text::jinja {
namespace {

Value changed(const Value& value, Case to) {
  return Value::string(change_case(to_text(value), to));
}

Value lower(Interpreter&, const Value& value, const Arguments&) {
  return changed(value, Case::lower);
}
Value upper(Interpreter&, const Value& value, const Arguments&) {
  return changed(value, Case::upper);
}
Value capitalize(Interpreter&, const Value& value, const Arguments&) {
  return changed(value, Case::capitalize);
}
Value title(Interpreter&, const Value& value, const Arguments&) {
  return changed(value, Case::words);
}

Value trim(Interpreter&, const Value& value, const Arguments& arguments) {
  const auto chars = text_argument(arguments, 0, "chars");
  return Value::string(strip(to_text(value), chars ? &*chars : nullptr, Side::both));
}

Value replace_filter(Interpreter&, const Value& value, const Arguments& arguments) {
  const Text from = to_text(required_argument(arguments, 0, "old"));
  const Text to = to_text(required_argument(arguments, 1, "new"));
  const std::int64_t count = integer_argument(arguments, 2, "count", -1);
  return Value::string(replace(to_text(value), from.bytes(), to, count));
}

Value string_filter(Interpreter&, const Value& value, const Arguments&) {
  return Value::string(to_text(value));
}

Value indent(Interpreter&, const Value& value, const Arguments& arguments) {
  const Value* width = arguments.find(0, "width");
  const Text spaces =
      width != nullptr && width->is(Kind::text)
          ? width->as_text()
          : Text(std::string(static_cast<std::size_t>(std::clamp<std::int64_t>(
                                 integer_argument(arguments, 0, "width", 4), 0, 1000)),
                             ' '));
  const bool first = flag_argument(arguments, 1, "first", false);
  const bool blank = flag_argument(arguments, 2, "blank", false);
  Text text = to_text(value);
  text.append("\n");
  const std::vector<Text> lines = split_lines(text, false);
  Text out;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) out.append("\n");
    if (i == 0 ? first : blank || !lines[i].empty()) out.append(spaces);
    out.append(lines[i]);
  }
  return Value::string(std::move(out));
}

Value escape(Interpreter&, const Value& value, const Arguments&) {
  Text text = to_text(value);
  static constexpr std::pair<std::string_view, std::string_view> kRows[] = {
      {"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}, {"'", "&#39;"}, {"\"", "&#34;"}};
  for (const auto& [from, to] : kRows) text = replace(text, from, Text(std::string(to)), -1);
  return Value::string(std::move(text));
}

Value tojson(Interpreter&, const Value& value, const Arguments& arguments) {
  JsonStyle style;
  style.ensure_ascii = flag_argument(arguments, 0, "ensure_ascii", false);
  style.sort_keys = flag_argument(arguments, 3, "sort_keys", false);
  const Value* indentation = arguments.find(1, "indent");
  if (indentation != nullptr && !indentation->is(Kind::none)) {
    style.item_separator.assign(1, ',');
    style.indent = indentation->is(Kind::text)
                       ? indentation->as_text().bytes()
                       : std::string(static_cast<std::size_t>(std::clamp<std::int64_t>(
                                         indentation->as_integer(), 0, 100)),
                                     ' ');
  }
  const Value* separators = arguments.find(2, "separators");
  if (separators != nullptr && !separators->is(Kind::none)) {
    if (separators->as_items().size() != 2) raise("tojson: expected two separators");
    style.item_separator = separators->as_items()[0].as_text().bytes();
    style.key_separator = separators->as_items()[1].as_text().bytes();
  }
  return Value::string(to_json(value, style));
}

Value center(Interpreter&, const Value& value, const Arguments& arguments) {
  return Value::string(
      pad(to_text(value), integer_argument(arguments, 0, "width", 80), Side::both, Text(" ")));
}

Value truncate(Interpreter&, const Value& value, const Arguments& arguments) {
  const Text text = to_text(value);
  const std::int64_t wanted = integer_argument(arguments, 0, "length", 255);
  const bool cut_words = flag_argument(arguments, 1, "killwords", false);
  const Value* const end = arguments.find(2, "end");
  const Text mark = end != nullptr ? end->as_text() : Text("...");
  const std::int64_t leeway = integer_argument(arguments, 3, "leeway", 5);
  const std::int64_t kept = wanted - length(Value::string(mark));
  if (kept < 0 || leeway < 0) {
    raise("truncate: expected a length of at least that of the end and a leeway of at least 0");
  }
  const std::int64_t have = length(Value::string(text));
  if (have <= wanted || have - wanted <= leeway) return Value::string(text);
  Text start = first_characters(text, kept);
  const std::size_t space = start.bytes().rfind(' ');
  if (!cut_words && space != std::string::npos) start = start.bytes_between(0, space);
  start.append(mark);
  return Value::string(std::move(start));
}

Value wordcount(Interpreter&, const Value& value, const Arguments&) {
  const Text text = to_text(value);
  std::int64_t words = 0;
  bool inside = false;
  for (std::size_t offset = 0; offset < text.size();) {
    const bool letter =
        is_alphanumeric(next_code_point(text.bytes(), offset)) || text.bytes()[offset - 1] == '_';
    words += letter && !inside ? 1 : 0;
    inside = letter;
  }
  return Value::integer(words);
}

Value format_filter(Interpreter&, const Value& value, const Arguments& arguments) {
  if (arguments.named.empty()) {
    return Value::string(percent_format(to_text(value), Value::tuple(arguments.positional)));
  }
  if (!arguments.positional.empty()) raise("format: values by position and by name at once");
  Pairs pairs;
  for (const auto& [name, given] : arguments.named) {
    pairs.emplace_back(Value::string(name), given);
  }
  return Value::string(percent_format(to_text(value), Value::dict(std::move(pairs))));
}

// Percent-encoding; in a query a slash is encoded, too, and a space is a plus.
Text quote_url(const Text& text, bool query) {
  constexpr std::string_view kPlain =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-~";
  Text out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text.bytes()[i];
    const bool plain = kPlain.find(c) != std::string_view::npos || (!query && c == '/');
    out.append(plain               ? std::string(1, c)
               : query && c == ' ' ? "+"
                                   : fmt::format("%{:02X}", static_cast<unsigned char>(c)),
               text.origin(i));
  }
  return out;
}

Value urlencode(Interpreter&, const Value& value, const Arguments&) {
  if (!value.is(Kind::dict) && !value.is_sequence()) {
    return Value::string(quote_url(to_text(value), false));
  }
  Items pairs;
  if (value.is(Kind::dict)) {
    for (const auto& [key, item] : value.as_pairs()) pairs.push_back(Value::tuple({key, item}));
  } else {
    pairs = value.as_items();
  }
  Text out;
  for (const Value& pair : pairs) {
    const Items sides = iterate(pair);
    if (sides.size() != 2) raise("urlencode: expected pairs, got {} values", sides.size());
    if (!out.empty()) out.append("&");
    out.append(quote_url(to_text(sides[0]), true));
    out.append("=");
    out.append(quote_url(to_text(sides[1]), true));
  }
  return Value::string(std::move(out));
}

// An attribute as such: of a dict its methods, not its items.
Value attr(Interpreter& self, const Value& value, const Arguments& arguments) {
  const std::string name = required_argument(arguments, 0, "name").as_text().bytes();
  if (value.is(Kind::dict) && find_method(value, name) == nullptr) return Value("'" + name + "'");
  return self.attribute(value, name);
}

Value fallback(Interpreter&, const Value& value, const Arguments& arguments) {
  const bool empty = flag_argument(arguments, 1, "boolean", false) && !value.truthy();
  if (!value.is(Kind::undefined) && !empty) return value;
  const Value* given = arguments.find(0, "default_value");
  return given != nullptr ? *given : Value::string("");
}

Value count(Interpreter&, const Value& value, const Arguments&) {
  return Value::integer(length(value));
}

// The number that a whole text is; nothing where it is none.
template <class T>
std::optional<T> parse_number(const Value& value) {
  const std::string text = strip(value.as_text(), nullptr, Side::both).bytes();
  const char* begin = text.data() + (text.starts_with('+') ? 1 : 0);
  T number{};
  const auto parsed = std::from_chars(begin, text.data() + text.size(), number);
  if (parsed.ec != std::errc{} || parsed.ptr != text.data() + text.size()) return std::nullopt;
  return number;
}

Value to_integer(Interpreter&, const Value& value, const Arguments& arguments) {
  std::optional<double> real;
  if (value.is(Kind::text)) {
    if (const auto whole = parse_number<std::int64_t>(value)) return Value::integer(*whole);
    real = parse_number<double>(value);
  } else if (value.is(Kind::real)) {
    real = value.as_real();
  } else if (value.is_number()) {
    return Value::integer(value.as_integer());
  }
  if (real && std::abs(*real) < 0x1p63) return Value::integer(static_cast<std::int64_t>(*real));
  return Value::integer(integer_argument(arguments, 0, "default", 0));
}

Value to_real(Interpreter&, const Value& value, const Arguments& arguments) {
  if (value.is_number()) return Value::real(value.as_real());
  if (value.is(Kind::text)) {
    if (const auto real = parse_number<double>(value)) return Value::real(*real);
  }
  const Value* given = arguments.find(0, "default");
  return Value::real(given != nullptr ? given->as_real() : 0.0);
}

Value absolute(Interpreter&, const Value& value, const Arguments&) {
  if (value.is(Kind::real)) return Value::real(std::abs(value.as_real()));
  const std::int64_t number = value.as_integer();
  return Value::integer(number < 0 && number != INT64_MIN ? -number : number);
}

Value round_filter(Interpreter&, const Value& value, const Arguments& arguments) {
  const double scale =
      std::pow(10.0, static_cast<double>(integer_argument(arguments, 0, "precision", 0)));
  const std::string method = text_argument(arguments, 1, "method").value_or("common");
  const double scaled = value.as_real() * scale;
  if (method == "ceil") return Value::real(std::ceil(scaled) / scale);
  if (method == "floor") return Value::real(std::floor(scaled) / scale);
  if (method != "common") raise("round: expected common, ceil or floor, got '{}'", method);
  return Value::real(std::nearbyint(scaled) / scale);
}

constexpr Builtin kFilters[] = {
    {"abs", "", absolute},
    {"attr", "name", attr},
    {"capitalize", "", capitalize},
    {"center", "width", center},
    {"count", "", count},
    {"d", "default_value boolean", fallback},
    {"default", "default_value boolean", fallback},
    {"e", "", escape},
    {"escape", "", escape},
    {"float", "default", to_real},
    {"forceescape", "", escape},
    {"format", "*", format_filter},
    {"indent", "width first blank", indent},
    {"int", "default base", to_integer},
    {"length", "", count},
    {"lower", "", lower},
    {"replace", "old new count", replace_filter},
    {"round", "precision method", round_filter},
    {"safe", "", string_filter},
    {"string", "", string_filter},
    {"title", "", title},
    {"tojson", "ensure_ascii indent separators sort_keys", tojson},
    {"trim", "chars", trim},
    {"truncate", "length killwords end leeway", truncate},
    {"upper", "", upper},
    {"urlencode", "", urlencode},
    {"wordcount", "", wordcount},
};

}  // namespace

const Builtin* find_filter(std::string_view name) {
  const Builtin* found = find_row(kFilters, name);
  return found != nullptr ? found : find_list_filter(name);
}

}  // namespace qlora::text::jinja
