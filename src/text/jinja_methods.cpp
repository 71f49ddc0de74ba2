// The methods of str, dict and list that chat templates call.

#include "text/jinja_builtins.h"
#include "text/jinja_eval.h"

#include <algorithm>

namespace qlora::text::jinja {
namespace {

// Methods of str.

template <Side side>
Value str_strip(Interpreter&, const Value& self, const Arguments& arguments) {
  const auto chars = text_argument(arguments, 0, "chars");
  return Value::string(strip(self.as_text(), chars ? &*chars : nullptr, side));
}
template <Case to>
Value str_case(Interpreter&, const Value& self, const Arguments&) {
  return Value::string(change_case(self.as_text(), to));
}
Value list_of(std::vector<Text> texts) {
  Items items;
  for (Text& text : texts) items.push_back(Value::string(std::move(text)));
  return Value::list(std::move(items));
}
Value str_split(Interpreter&, const Value& self, const Arguments& arguments) {
  const auto separator = text_argument(arguments, 0, "sep");
  const std::int64_t limit = integer_argument(arguments, 1, "maxsplit", -1);
  return list_of(split(self.as_text(), separator ? &*separator : nullptr, limit));
}
Value str_rsplit(Interpreter&, const Value& self, const Arguments& arguments) {
  const auto separator = text_argument(arguments, 0, "sep");
  const std::int64_t limit = integer_argument(arguments, 1, "maxsplit", -1);
  return list_of(split_from_right(self.as_text(), separator ? &*separator : nullptr, limit));
}
Value str_splitlines(Interpreter&, const Value& self, const Arguments& arguments) {
  return list_of(split_lines(self.as_text(), flag_argument(arguments, 0, "keepends", false)));
}
Value str_replace(Interpreter&, const Value& self, const Arguments& arguments) {
  const Text& from = required_argument(arguments, 0, "old").as_text();
  const Text& to = required_argument(arguments, 1, "new").as_text();
  const std::int64_t count = integer_argument(arguments, 2, "count", -1);
  return Value::string(replace(self.as_text(), from.bytes(), to, count));
}
// Whether the text starts or ends with the argument, a str or a tuple of them.
template <bool at_start>
Value str_edge(Interpreter&, const Value& self, const Arguments& arguments) {
  const Value& wanted = required_argument(arguments, 0, "part");
  const std::string& text = self.as_text().bytes();
  const Items parts = wanted.is(Kind::tuple) ? wanted.as_items() : Items{wanted};
  return Value::boolean(std::any_of(parts.begin(), parts.end(), [&](const Value& part) {
    const std::string& edge = part.as_text().bytes();
    return at_start ? text.starts_with(edge) : text.ends_with(edge);
  }));
}
template <bool at_start>
Value str_remove(Interpreter&, const Value& self, const Arguments& arguments) {
  const std::string& part = required_argument(arguments, 0, "part").as_text().bytes();
  const Text& text = self.as_text();
  if (at_start && text.bytes().starts_with(part)) {
    return Value::string(text.bytes_between(part.size(), text.size()));
  }
  if (!at_start && text.bytes().ends_with(part)) {
    return Value::string(text.bytes_between(0, text.size() - part.size()));
  }
  return self;
}
// The first or last place of a part; where there is none, an error or -1.
template <bool first, bool needed>
Value str_find(Interpreter&, const Value& self, const Arguments& arguments) {
  const std::string& text = self.as_text().bytes();
  const std::string& part = required_argument(arguments, 0, "sub").as_text().bytes();
  const auto found = first ? text.find(part) : text.rfind(part);
  if (found != std::string::npos) {
    return Value::integer(std::ssize(code_points(text.substr(0, found))) - 1);
  }
  if (needed) raise("index: the text does not hold the part");
  return Value::integer(-1);
}
template <bool first>
Value str_partition(Interpreter&, const Value& self, const Arguments& arguments) {
  const Text& text = self.as_text();
  const Text& separator = required_argument(arguments, 0, "sep").as_text();
  if (separator.empty()) raise("partition: the separator is empty");
  const auto found =
      first ? text.bytes().find(separator.bytes()) : text.bytes().rfind(separator.bytes());
  if (found == std::string::npos) {
    const Value none = Value::string("");
    return first ? Value::tuple({self, none, none}) : Value::tuple({none, none, self});
  }
  const std::size_t end = found + separator.size();
  return Value::tuple({Value::string(text.bytes_between(0, found)),
                       Value::string(text.bytes_between(found, end)),
                       Value::string(text.bytes_between(end, text.size()))});
}
template <Side side>
Value str_pad(Interpreter&, const Value& self, const Arguments& arguments) {
  const Value* const given = arguments.find(1, "fillchar");
  const Text fill = given != nullptr ? given->as_text() : Text(" ");
  if (length(Value::string(fill)) != 1) raise("the fill character is not one character");
  const std::int64_t width = required_argument(arguments, 0, "width").as_integer();
  return Value::string(pad(self.as_text(), width, side, fill));
}
Value str_zfill(Interpreter&, const Value& self, const Arguments& arguments) {
  const Text& text = self.as_text();
  const std::size_t sign = text.bytes().starts_with('-') || text.bytes().starts_with('+') ? 1 : 0;
  const std::int64_t width = required_argument(arguments, 0, "width").as_integer();
  Text filled = text.bytes_between(0, sign);
  filled.append(pad(text.bytes_between(sign, text.size()),
                    std::max<std::int64_t>(width, 1) - static_cast<std::int64_t>(sign), Side::left,
                    Text("0")));
  return Value::string(std::move(filled));
}
// Whether there are characters, each of that kind.
template <bool (*is_kind)(std::uint32_t)>
Value str_all(Interpreter&, const Value& self, const Arguments&) {
  const std::string& text = self.as_text().bytes();
  bool all = !text.empty();
  for (std::size_t offset = 0; all && offset < text.size();) {
    all = is_kind(next_code_point(text, offset));
  }
  return Value::boolean(all);
}
Value str_count(Interpreter&, const Value& self, const Arguments& arguments) {
  const std::string& part = required_argument(arguments, 0, "sub").as_text().bytes();
  if (part.empty()) return Value::integer(length(self) + 1);
  return Value::integer(std::ssize(split(self.as_text(), &part, -1)) - 1);
}
Value str_join(Interpreter& interpreter, const Value& self, const Arguments& arguments) {
  Text out;
  bool empty = true;
  for (const Value& item : iterate(required_argument(arguments, 0, "items"))) {
    interpreter.spend(1);
    if (!empty) out.append(self.as_text());
    empty = false;
    out.append(item.as_text());
  }
  return Value::string(std::move(out));
}
// str.format with the fields {}, {0} and {name}.
Value str_format(Interpreter&, const Value& self, const Arguments& arguments) {
  const Text& text = self.as_text();
  const std::string& bytes = text.bytes();
  Text out;
  std::size_t next = 0;
  for (std::size_t i = 0; i < bytes.size();) {
    const char c = bytes[i];
    if (c != '{' && c != '}') {
      const std::size_t end = std::min(bytes.find_first_of("{}", i), bytes.size());
      out.append(text.bytes_between(i, end));
      i = end;
    } else if (i + 1 < bytes.size() && bytes[i + 1] == c) {
      out.append(text.bytes_between(i, i + 1));
      i += 2;
    } else {
      const std::size_t end = c == '{' ? bytes.find('}', i) : std::string::npos;
      if (end == std::string::npos) raise("format: a brace stands alone");
      const std::string field = bytes.substr(i + 1, end - i - 1);
      const bool digits = field.find_first_not_of("0123456789") == std::string::npos;
      const std::size_t position = !digits || field.size() > 4 ? arguments.positional.size()
                                   : field.empty()             ? next++
                                                               : std::stoul(field);
      out.append(to_text(required_argument(arguments, position, field)));
      i = end + 1;
    }
  }
  return Value::string(std::move(out));
}
Value str_isdigit(Interpreter&, const Value& self, const Arguments&) {
  const std::string& text = self.as_text().bytes();
  return Value::boolean(!text.empty() && text.find_first_not_of("0123456789") == std::string::npos);
}

constexpr Builtin kTextMethods[] = {
    {"capitalize", "", str_case<Case::capitalize>},
    {"center", "width fillchar", str_pad<Side::both>},
    {"count", "sub", str_count},
    {"endswith", "part", str_edge<false>},
    {"find", "sub", str_find<true, false>},
    {"format", "*", str_format},
    {"index", "sub", str_find<true, true>},
    {"isalnum", "", str_all<is_alphanumeric>},
    {"isalpha", "", str_all<is_letter>},
    {"isdigit", "", str_isdigit},
    {"isspace", "", str_all<is_space>},
    {"join", "items", str_join},
    {"ljust", "width fillchar", str_pad<Side::right>},
    {"lower", "", str_case<Case::lower>},
    {"lstrip", "chars", str_strip<Side::left>},
    {"partition", "sep", str_partition<true>},
    {"removeprefix", "part", str_remove<true>},
    {"removesuffix", "part", str_remove<false>},
    {"replace", "old new count", str_replace},
    {"rfind", "sub", str_find<false, false>},
    {"rindex", "sub", str_find<false, true>},
    {"rjust", "width fillchar", str_pad<Side::left>},
    {"rpartition", "sep", str_partition<false>},
    {"rsplit", "sep maxsplit", str_rsplit},
    {"rstrip", "chars", str_strip<Side::right>},
    {"split", "sep maxsplit", str_split},
    {"splitlines", "keepends", str_splitlines},
    {"startswith", "part", str_edge<true>},
    {"strip", "chars", str_strip<Side::both>},
    {"swapcase", "", str_case<Case::swap>},
    {"title", "", str_case<Case::title>},
    {"upper", "", str_case<Case::upper>},
    {"zfill", "width", str_zfill},
};

// Methods of dict and list.

Value dict_items(Interpreter&, const Value& self, const Arguments&) {
  Items items;
  for (const auto& [key, value] : self.as_pairs()) items.push_back(Value::tuple({key, value}));
  return Value::list(std::move(items));
}
Value dict_keys(Interpreter&, const Value& self, const Arguments&) {
  return Value::list(iterate(self));
}
Value dict_values(Interpreter&, const Value& self, const Arguments&) {
  Items items;
  for (const auto& [key, value] : self.as_pairs()) items.push_back(value);
  return Value::list(std::move(items));
}
Value dict_get(Interpreter&, const Value& self, const Arguments& arguments) {
  if (const Value* found = self.find(required_argument(arguments, 0, "key"))) return *found;
  const Value* fallback = arguments.find(1, "default");
  return fallback != nullptr ? *fallback : Value::none();
}
Value copy(Interpreter&, const Value& self, const Arguments&) { return self; }
Value list_index(Interpreter&, const Value& self, const Arguments& arguments) {
  const Items& items = self.as_items();
  const Value& wanted = required_argument(arguments, 0, "value");
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (equal(items[i], wanted)) return Value::integer(static_cast<std::int64_t>(i));
  }
  raise("index: the value is not in the list");
}
Value list_count(Interpreter&, const Value& self, const Arguments& arguments) {
  const Value& wanted = required_argument(arguments, 0, "value");
  const Items& items = self.as_items();
  return Value::integer(std::count_if(items.begin(), items.end(),
                                      [&](const Value& item) { return equal(item, wanted); }));
}
// transformers renders in Jinja's immutable sandbox, which refuses these too.
Value refuse_change(Interpreter&, const Value& self, const Arguments&) {
  raise("a chat template cannot change a {}; set a new one instead", type_name(self));
}

constexpr Builtin kDictMethods[] = {
    {"clear", "*", refuse_change},    {"copy", "", copy},
    {"get", "key default", dict_get}, {"items", "", dict_items},
    {"keys", "", dict_keys},          {"pop", "*", refuse_change},
    {"popitem", "*", refuse_change},  {"setdefault", "*", refuse_change},
    {"update", "*", refuse_change},   {"values", "", dict_values},
};

constexpr Builtin kListMethods[] = {
    {"append", "*", refuse_change},  {"clear", "*", refuse_change},  {"copy", "", copy},
    {"count", "value", list_count},  {"extend", "*", refuse_change}, {"index", "value", list_index},
    {"insert", "*", refuse_change},  {"pop", "*", refuse_change},    {"remove", "*", refuse_change},
    {"reverse", "*", refuse_change}, {"sort", "*", refuse_change},
};

}  // namespace

const Builtin* find_method(const Value& subject, std::string_view name) {
  if (subject.is(Kind::text)) return find_row(kTextMethods, name);
  if (subject.is(Kind::dict)) return find_row(kDictMethods, name);
  if (subject.is(Kind::list)) return find_row(kListMethods, name);
  return nullptr;
}

}  // namespace qlora::text::jinja
