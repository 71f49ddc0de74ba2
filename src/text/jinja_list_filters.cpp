// The filters of chat templates for lists and dicts; each row of the table at the end is one.

#include "text/jinja_builtins.h"
#include "text/jinja_eval.h"

#include <algorithm>
#include <utility>

namespace qlora::text::jinja {
namespace {

// `subject` with "a.b.0" followed as attributes and positions.
Value follow(Interpreter& self, const Value& subject, const Value& path) {
  if (path.is(Kind::integer)) return self.item(subject, path);
  Value value = subject;
  const std::string dot = ".";
  for (const Text& part : split(path.as_text(), &dot, -1)) {
    const std::string& name = part.bytes();
    const bool number = !name.empty() && name.find_first_not_of("0123456789") == std::string::npos;
    value = self.item(
        value, number && name.size() < 10 ? Value::integer(std::stoll(name)) : Value::string(name));
  }
  return value;
}

// What sorting and comparing look at: an attribute, without case unless asked.
Value sort_key(Interpreter& self, const Value& item, const Value* attribute, bool case_sensitive) {
  Value key =
      attribute != nullptr && !attribute->is(Kind::none) ? follow(self, item, *attribute) : item;
  if (case_sensitive || !key.is(Kind::text)) return key;
  return Value::string(change_case(key.as_text(), Case::lower));
}

Value first(Interpreter&, const Value& value, const Arguments&) {
  const Items items = iterate(value);
  return items.empty() ? Value("the first of nothing") : items.front();
}

Value last(Interpreter&, const Value& value, const Arguments&) {
  const Items items = iterate(value);
  return items.empty() ? Value("the last of nothing") : items.back();
}

Value list(Interpreter&, const Value& value, const Arguments&) {
  return Value::list(iterate(value));
}

Value items(Interpreter& self, const Value& value, const Arguments&) {
  if (value.is(Kind::undefined)) return Value::list({});
  if (!value.is(Kind::dict)) raise("items: expected dict, got {}", type_name(value));
  return self.call(self.attribute(value, "items"), {});
}

Value reverse(Interpreter&, const Value& value, const Arguments&) {
  Items items = iterate(value);
  std::reverse(items.begin(), items.end());
  if (!value.is(Kind::text)) return Value::list(std::move(items));
  Text text;
  for (const Value& item : items) text.append(item.as_text());
  return Value::string(std::move(text));
}

Value join(Interpreter& self, const Value& value, const Arguments& arguments) {
  const Value* separator = arguments.find(0, "d");
  const Value* attribute = arguments.find(1, "attribute");
  const Text between = separator != nullptr ? to_text(*separator) : Text();
  Text out;
  bool empty = true;
  for (const Value& item : iterate(value)) {
    if (!empty) out.append(between);
    empty = false;
    out.append(to_text(attribute != nullptr ? follow(self, item, *attribute) : item));
  }
  return Value::string(std::move(out));
}

using Keyed = std::vector<std::pair<Value, Value>>;

void sort_by_key(Interpreter& self, Keyed& keyed, bool reversed) {
  if (!keyed.empty()) self.spend(keyed.size() * 16 * cost(keyed.front().first));
  std::stable_sort(keyed.begin(), keyed.end(), [reversed](const auto& a, const auto& b) {
    return reversed ? less(b.first, a.first) : less(a.first, b.first);
  });
}

Value sort(Interpreter& self, const Value& value, const Arguments& arguments) {
  const bool reversed = flag_argument(arguments, 0, "reverse", false);
  const bool case_sensitive = flag_argument(arguments, 1, "case_sensitive", false);
  const Value* attribute = arguments.find(2, "attribute");
  Keyed keyed;
  for (const Value& item : iterate(value)) {
    keyed.emplace_back(sort_key(self, item, attribute, case_sensitive), item);
  }
  sort_by_key(self, keyed, reversed);
  Items items;
  for (auto& [key, item] : keyed) items.push_back(std::move(item));
  return Value::list(std::move(items));
}

Value dictsort(Interpreter& self, const Value& value, const Arguments& arguments) {
  Items pairs;
  for (const auto& [key, item] : value.as_pairs()) pairs.push_back(Value::tuple({key, item}));
  const auto by = text_argument(arguments, 1, "by").value_or("key");
  if (by != "key" && by != "value") raise("dictsort: expected by='key' or 'value', got '{}'", by);
  Arguments how;
  how.positional = {Value::boolean(flag_argument(arguments, 2, "reverse", false)),
                    Value::boolean(flag_argument(arguments, 0, "case_sensitive", false)),
                    Value::integer(by == "key" ? 0 : 1)};
  return sort(self, Value::list(std::move(pairs)), how);
}

// Pairs of what items have in common (`grouper`) and these items (`list`), in order of the former.
Value groupby(Interpreter& self, const Value& value, const Arguments& arguments) {
  const Value& attribute = required_argument(arguments, 0, "attribute");
  const Value* absent = arguments.find(1, "default");
  const bool case_sensitive = flag_argument(arguments, 2, "case_sensitive", false);
  const auto common = [&](const Value& item) {
    Value found = follow(self, item, attribute);
    return found.is(Kind::undefined) && absent != nullptr ? *absent : found;
  };
  Keyed keyed;
  for (const Value& item : iterate(value)) {
    keyed.emplace_back(sort_key(self, common(item), nullptr, case_sensitive), item);
  }
  sort_by_key(self, keyed, false);
  Items groups;
  for (std::size_t begin = 0; begin < keyed.size();) {
    Items group;
    std::size_t end = begin;
    for (; end < keyed.size() && equal(keyed[end].first, keyed[begin].first); ++end) {
      group.push_back(keyed[end].second);
    }
    groups.push_back(Value::named_tuple({{Value::string("grouper"), common(group.front())},
                                         {Value::string("list"), Value::list(std::move(group))}}));
    begin = end;
  }
  return Value::list(std::move(groups));
}

// A number of lists, or of items, that is bearable.
std::int64_t count_argument(Interpreter& self, const Arguments& arguments, std::string_view name) {
  const std::int64_t count = required_argument(arguments, 0, name).as_integer();
  if (count < 1 || count > static_cast<std::int64_t>(kMaxItems)) {
    raise("{}: expected a number from 1 to {}, got {}", name, kMaxItems, count);
  }
  self.spend(static_cast<std::size_t>(count));
  return count;
}

// Lists of so many items each; the last one is filled up where there is something to fill it with.
Value batch(Interpreter& self, const Value& value, const Arguments& arguments) {
  const std::int64_t count = count_argument(self, arguments, "linecount");
  const Value* fill = arguments.find(1, "fill_with");
  Items lists;
  Items line;
  for (const Value& item : iterate(value)) {
    if (std::ssize(line) == count) lists.push_back(Value::list(std::exchange(line, {})));
    line.push_back(item);
  }
  if (line.empty()) return Value::list(std::move(lists));
  if (fill != nullptr && !fill->is(Kind::none)) line.resize(static_cast<std::size_t>(count), *fill);
  lists.push_back(Value::list(std::move(line)));
  return Value::list(std::move(lists));
}

// So many lists of about as many items each.
Value slice(Interpreter& self, const Value& value, const Arguments& arguments) {
  const std::int64_t count = count_argument(self, arguments, "slices");
  const Value* fill = arguments.find(1, "fill_with");
  const Items items = iterate(value);
  const std::int64_t longer = std::ssize(items) % count;
  Items lists;
  auto next = items.begin();
  for (std::int64_t i = 0; i < count; ++i) {
    const auto end = next + std::ssize(items) / count + (i < longer ? 1 : 0);
    Items part(next, end);
    if (fill != nullptr && !fill->is(Kind::none) && i >= longer) part.push_back(*fill);
    lists.push_back(Value::list(std::move(part)));
    next = end;
  }
  return Value::list(std::move(lists));
}

Value unique(Interpreter& self, const Value& value, const Arguments& arguments) {
  const bool case_sensitive = flag_argument(arguments, 0, "case_sensitive", false);
  const Value* attribute = arguments.find(1, "attribute");
  Items kept;
  Items seen;
  for (const Value& item : iterate(value)) {
    Value key = sort_key(self, item, attribute, case_sensitive);
    self.spend(seen.size() * cost(key));
    const bool known = std::any_of(seen.begin(), seen.end(),
                                   [&](const Value& other) { return equal(other, key); });
    if (known) continue;
    seen.push_back(std::move(key));
    kept.push_back(item);
  }
  return Value::list(std::move(kept));
}

Value extreme(Interpreter& self, const Value& value, const Arguments& arguments, bool greatest) {
  const bool case_sensitive = flag_argument(arguments, 0, "case_sensitive", false);
  const Value* attribute = arguments.find(1, "attribute");
  const Items items = iterate(value);
  if (items.empty()) return Value("the greatest or least of nothing");
  const auto before = [&](const Value& a, const Value& b) {
    return less(sort_key(self, a, attribute, case_sensitive),
                sort_key(self, b, attribute, case_sensitive));
  };
  return greatest ? *std::max_element(items.begin(), items.end(), before)
                  : *std::min_element(items.begin(), items.end(), before);
}

Value max(Interpreter& self, const Value& value, const Arguments& arguments) {
  return extreme(self, value, arguments, true);
}
Value min(Interpreter& self, const Value& value, const Arguments& arguments) {
  return extreme(self, value, arguments, false);
}

Value sum(Interpreter& self, const Value& value, const Arguments& arguments) {
  const Value* attribute = arguments.find(0, "attribute");
  const Value* start = arguments.find(1, "start");
  Value total = start != nullptr ? *start : Value::integer(0);
  for (const Value& item : iterate(value)) {
    const Value number =
        attribute != nullptr && !attribute->is(Kind::none) ? follow(self, item, *attribute) : item;
    const bool real = total.is(Kind::real) || number.is(Kind::real);
    std::int64_t whole = 0;
    if (real) {
      total = Value::real(total.as_real() + number.as_real());
    } else {
      if (__builtin_add_overflow(total.as_integer(), number.as_integer(), &whole)) {
        raise("a number past 64 bits");
      }
      total = Value::integer(whole);
    }
  }
  return total;
}

// The arguments behind the first `skip`.
Arguments rest(const Arguments& arguments, std::size_t skip) {
  Arguments left = arguments;
  const auto count = std::min(skip, left.positional.size());
  left.positional.erase(left.positional.begin(),
                        left.positional.begin() + static_cast<std::ptrdiff_t>(count));
  return left;
}

// Jinja lets these filters take None, as an empty list.
Items iterate_or_none(const Value& value) {
  return value.is(Kind::none) ? Items{} : iterate(value);
}

Value map(Interpreter& self, const Value& value, const Arguments& arguments) {
  Items items = iterate_or_none(value);
  const Value* attribute = nullptr;
  const Value* absent = nullptr;
  for (const auto& [name, given] : arguments.named) {
    if (name == "attribute") attribute = &given;
    if (name == "default") absent = &given;
  }
  self.spend(items.size());
  for (Value& item : items) {
    if (attribute != nullptr) {
      item = follow(self, item, *attribute);
      if (item.is(Kind::undefined) && absent != nullptr) item = *absent;
    } else {
      const std::string& filter = required_argument(arguments, 0, "filter").as_text().bytes();
      item = self.apply_filter(filter, item, rest(arguments, 1));
    }
  }
  return Value::list(std::move(items));
}

Value choose(Interpreter& self, const Value& value, const Arguments& arguments, bool by_attribute,
             bool wanted) {
  const std::size_t skip = by_attribute ? 1 : 0;
  const Value* test = arguments.find(skip, "");
  Items kept;
  for (const Value& item : iterate_or_none(value)) {
    self.spend(1);
    const Value looked_at =
        by_attribute ? follow(self, item, required_argument(arguments, 0, "attribute")) : item;
    const bool holds = test == nullptr ? looked_at.truthy()
                                       : self.apply_test(test->as_text().bytes(), looked_at,
                                                         rest(arguments, skip + 1));
    if (holds == wanted) kept.push_back(item);
  }
  return Value::list(std::move(kept));
}

Value select(Interpreter& self, const Value& value, const Arguments& arguments) {
  return choose(self, value, arguments, false, true);
}
Value reject(Interpreter& self, const Value& value, const Arguments& arguments) {
  return choose(self, value, arguments, false, false);
}
Value selectattr(Interpreter& self, const Value& value, const Arguments& arguments) {
  return choose(self, value, arguments, true, true);
}
Value rejectattr(Interpreter& self, const Value& value, const Arguments& arguments) {
  return choose(self, value, arguments, true, false);
}

constexpr Builtin kListFilters[] = {
    {"batch", "linecount fill_with", batch},
    {"dictsort", "case_sensitive by reverse", dictsort},
    {"first", "", first},
    {"groupby", "attribute default case_sensitive", groupby},
    {"items", "", items},
    {"join", "d attribute", join},
    {"last", "", last},
    {"list", "", list},
    {"map", "attribute default *", map},
    {"max", "case_sensitive attribute", max},
    {"min", "case_sensitive attribute", min},
    {"reject", "*", reject},
    {"rejectattr", "*", rejectattr},
    {"reverse", "", reverse},
    {"select", "*", select},
    {"selectattr", "*", selectattr},
    {"slice", "slices fill_with", slice},
    {"sort", "reverse case_sensitive attribute", sort},
    {"sum", "attribute start", sum},
    {"unique", "case_sensitive attribute", unique},
};

}  // namespace

const Builtin* find_list_filter(std::string_view name) { return find_row(kListFilters, name); }

}  // namespace qlora::text::jinja
