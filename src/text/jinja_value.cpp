#include "text/jinja_value.h"

#include <algorithm>
#include <cmath>

namespace qlora::text::jinja {

const Value* Arguments::find(std::size_t position, std::string_view name) const {
  if (position < positional.size()) return &positional[position];
  for (const auto& [key, value] : named) {
    if (key == name) return &value;
  }
  return nullptr;
}

Value::Value(std::string name) : data_(std::make_shared<const std::string>(std::move(name))) {}

Value Value::none() {
  Value value;
  value.kind_ = Kind::none;
  value.data_ = std::monostate{};
  return value;
}

Value Value::boolean(bool flag) {
  Value value;
  value.kind_ = Kind::boolean;
  value.data_ = flag;
  return value;
}

Value Value::integer(std::int64_t number) {
  Value value;
  value.kind_ = Kind::integer;
  value.data_ = number;
  return value;
}

Value Value::real(double number) {
  Value value;
  value.kind_ = Kind::real;
  value.data_ = number;
  return value;
}

Value Value::string(Text text) {
  Value value;
  value.kind_ = Kind::text;
  value.data_ = std::make_shared<const Text>(std::move(text));
  return value;
}

Value Value::container(Kind kind, Items items, Pairs pairs) {
  if (items.size() + pairs.size() > kMaxItems) raise("more than {} items", kMaxItems);
  int depth = 0;
  const auto visit = [&depth](const Value& item) {
    if (item.is(Kind::space)) raise("a namespace cannot be put into another value");
    depth = std::max(depth, item.depth());
  };
  for (const Value& item : items) visit(item);
  for (const auto& [key, item] : pairs) {
    if (key.depth() > 0) raise("a {} cannot be a key", type_name(key));
    visit(item);
  }
  if (depth >= kMaxValueDepth) raise("values nested deeper than {} levels", kMaxValueDepth);
  Value value;
  value.kind_ = kind;
  value.data_ =
      std::make_shared<Container>(Container{std::move(items), std::move(pairs), depth + 1});
  return value;
}

Value Value::list(Items items) { return container(Kind::list, std::move(items), {}); }
Value Value::tuple(Items items) { return container(Kind::tuple, std::move(items), {}); }
Value Value::named_tuple(Pairs members) {
  Items items;
  for (const auto& [name, item] : members) items.push_back(item);
  return container(Kind::tuple, std::move(items), std::move(members));
}
Value Value::dict(Pairs pairs) { return container(Kind::dict, {}, std::move(pairs)); }
Value Value::name_space(Pairs pairs) { return container(Kind::space, {}, std::move(pairs)); }

Value Value::function(Body body, int depth) {
  Value value;
  value.kind_ = Kind::function;
  value.data_ = std::make_shared<const Function>(Function{std::move(body), depth + 1});
  return value;
}

Value Value::from_json(const Json& json, Origin origin) {
  if (json.is_null()) return none();
  if (json.is_boolean()) return boolean(json.get<bool>());
  if (json.is_number_unsigned() && json.get<std::uint64_t>() >> 63 != 0) {
    return real(json.get<double>());
  }
  if (json.is_number_integer()) return integer(json.get<std::int64_t>());
  if (json.is_number_float()) return real(json.get<double>());
  if (json.is_string()) return string(Text(json.get<std::string>(), origin));
  if (json.is_array()) {
    Items items;
    for (const Json& item : json) items.push_back(from_json(item, origin));
    return list(std::move(items));
  }
  Pairs pairs;
  for (const auto& [key, item] : json.items()) {
    pairs.emplace_back(string(Text(key, origin)), from_json(item, origin));
  }
  return dict(std::move(pairs));
}

std::size_t cost(const Value& value) {
  if (value.is(Kind::text)) return 1 + value.as_text().size() / 4;
  if (value.is_sequence()) return 100 + 4 * value.as_items().size();
  if (value.is_mapping()) return 100 + 4 * value.as_pairs().size();
  return 1;
}

std::string_view type_name(const Value& value) {
  switch (value.kind()) {
    case Kind::undefined: return "undefined";
    case Kind::none: return "None";
    case Kind::boolean: return "bool";
    case Kind::integer: return "int";
    case Kind::real: return "float";
    case Kind::text: return "str";
    case Kind::list: return "list";
    case Kind::tuple: return "tuple";
    case Kind::dict: return "dict";
    case Kind::space: return "namespace";
    case Kind::function: return "function";
  }
  return "";
}

namespace {

[[noreturn]] void wrong_kind(const Value& value, std::string_view expected) {
  if (value.is(Kind::undefined)) raise("{} is undefined", value.undefined_name());
  raise("expected {}, got {}", expected, type_name(value));
}

}  // namespace

std::int64_t Value::as_integer() const {
  if (kind_ == Kind::boolean) return std::get<bool>(data_) ? 1 : 0;
  if (kind_ != Kind::integer) wrong_kind(*this, "int");
  return std::get<std::int64_t>(data_);
}

double Value::as_real() const {
  if (kind_ == Kind::real) return std::get<double>(data_);
  if (!is_number()) wrong_kind(*this, "a number");
  return static_cast<double>(as_integer());
}

const Text& Value::as_text() const {
  if (kind_ != Kind::text) wrong_kind(*this, "str");
  return *std::get<std::shared_ptr<const Text>>(data_);
}

const Items& Value::as_items() const {
  if (!is_sequence()) wrong_kind(*this, "list");
  return std::get<std::shared_ptr<Container>>(data_)->items;
}

const Pairs& Value::as_pairs() const {
  if (!is_mapping()) wrong_kind(*this, "dict");
  return std::get<std::shared_ptr<Container>>(data_)->pairs;
}

const Body& Value::as_function() const {
  if (kind_ != Kind::function) wrong_kind(*this, "something that can be called");
  return std::get<std::shared_ptr<const Function>>(data_)->body;
}

const std::string& Value::undefined_name() const {
  return *std::get<std::shared_ptr<const std::string>>(data_);
}

const Value* Value::find(const Value& key) const {
  for (const auto& [name, value] : as_pairs()) {
    if (equal(name, key)) return &value;
  }
  return nullptr;
}

namespace {

const Value* find_in(const Pairs& pairs, std::string_view key) {
  for (const auto& [name, value] : pairs) {
    if (name.is(Kind::text) && name.as_text().bytes() == key) return &value;
  }
  return nullptr;
}

}  // namespace

const Value* Value::find(std::string_view key) const { return find_in(as_pairs(), key); }

const Value* Value::member(std::string_view name) const {
  if (kind_ != Kind::tuple) return nullptr;
  return find_in(std::get<std::shared_ptr<Container>>(data_)->pairs, name);
}

bool Value::same(const Value& other) const {
  if (kind_ != other.kind_) return false;
  if (kind_ == Kind::text) return as_text().bytes() == other.as_text().bytes();
  return data_ == other.data_;
}

void Value::set_attribute(const std::string& name, Value value) const {
  if (kind_ != Kind::space) {
    raise("cannot set '{}' of {}; only a namespace's attributes can be set", name,
          type_name(*this));
  }
  if (value.is(Kind::space)) raise("a namespace cannot be put into another value");
  auto& self = *std::get<std::shared_ptr<Container>>(data_);
  self.depth = std::max(self.depth, value.depth() + 1);
  for (auto& [key, current] : self.pairs) {
    if (key.as_text().bytes() == name) {
      current = std::move(value);
      return;
    }
  }
  self.pairs.emplace_back(string(name), std::move(value));
}

bool Value::truthy() const {
  switch (kind_) {
    case Kind::undefined:
    case Kind::none: return false;
    case Kind::boolean:
    case Kind::integer: return as_integer() != 0;
    case Kind::real: return as_real() != 0.0;
    case Kind::text: return !as_text().empty();
    case Kind::list:
    case Kind::tuple: return !as_items().empty();
    case Kind::dict: return !as_pairs().empty();
    case Kind::space:
    case Kind::function: return true;
  }
  return false;
}

int Value::depth() const {
  if (const auto* held = std::get_if<std::shared_ptr<Container>>(&data_)) return (*held)->depth;
  if (const auto* held = std::get_if<std::shared_ptr<const Function>>(&data_)) {
    return (*held)->depth;
  }
  return 0;
}

namespace {

constexpr int kMaxCompared = 10'000;

// Values may share parts, so that a small one spells out an exponentially large tree.
class Comparison {
 public:
  bool equal(const Value& a, const Value& b) {
    if (--left_ == 0) raise("a comparison of values too large to finish");
    if (a.is_number() && b.is_number()) return equal_numbers(a, b);
    if (a.is_mapping() && b.is_mapping()) return equal_pairs(a.as_pairs(), b);
    if (a.kind() != b.kind()) return false;
    if (a.is(Kind::text)) return a.as_text().bytes() == b.as_text().bytes();
    if (a.is_sequence()) return equal_items(a.as_items(), b.as_items());
    return a.is(Kind::none) || a.is(Kind::undefined);
  }

 private:
  static bool equal_numbers(const Value& a, const Value& b) {
    if (a.is(Kind::real) || b.is(Kind::real)) return a.as_real() == b.as_real();
    return a.as_integer() == b.as_integer();
  }
  bool equal_items(const Items& a, const Items& b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                      [this](const Value& x, const Value& y) { return equal(x, y); });
  }
  bool equal_pairs(const Pairs& a, const Value& b) {
    if (a.size() != b.as_pairs().size()) return false;
    return std::all_of(a.begin(), a.end(), [&](const auto& pair) {
      for (const auto& [key, value] : b.as_pairs()) {
        if (equal(pair.first, key)) return equal(pair.second, value);
      }
      return false;
    });
  }

  int left_ = kMaxCompared;
};

}  // namespace

bool equal(const Value& a, const Value& b) { return Comparison().equal(a, b); }

bool less(const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) {
    if (a.is(Kind::real) || b.is(Kind::real)) return a.as_real() < b.as_real();
    return a.as_integer() < b.as_integer();
  }
  // UTF-8 sorts as its code points do.
  if (a.is(Kind::text) && b.is(Kind::text)) return a.as_text().bytes() < b.as_text().bytes();
  if (a.is_sequence() && b.is_sequence()) {
    const Items& x = a.as_items();
    const Items& y = b.as_items();
    for (std::size_t i = 0; i < std::min(x.size(), y.size()); ++i) {
      if (!equal(x[i], y[i])) return less(x[i], y[i]);
    }
    return x.size() < y.size();
  }
  raise("{} and {} have no order", type_name(a), type_name(b));
}

bool contains(const Value& container, const Value& item) {
  if (container.is(Kind::text)) {
    return container.as_text().bytes().find(item.as_text().bytes()) != std::string::npos;
  }
  if (container.is_mapping()) return container.find(item) != nullptr;
  const Items items = iterate(container);
  return std::any_of(items.begin(), items.end(), [&](const Value& x) { return equal(x, item); });
}

std::int64_t length(const Value& value) {
  switch (value.kind()) {
    case Kind::undefined: return 0;
    case Kind::text: return std::ssize(code_points(value.as_text().bytes())) - 1;
    case Kind::list:
    case Kind::tuple: return std::ssize(value.as_items());
    case Kind::dict: return std::ssize(value.as_pairs());
    default: raise("{} has no length", type_name(value));
  }
}

Items iterate(const Value& value) {
  Items items;
  if (value.is(Kind::undefined)) return items;
  if (value.is_sequence()) return value.as_items();
  if (value.is(Kind::dict)) {
    for (const auto& [key, item] : value.as_pairs()) items.push_back(key);
    return items;
  }
  if (!value.is(Kind::text)) raise("{} cannot be looped over", type_name(value));
  const std::vector<std::size_t> offsets = code_points(value.as_text().bytes());
  if (offsets.size() > kMaxItems) raise("more than {} items", kMaxItems);
  for (std::size_t i = 0; i + 1 < offsets.size(); ++i) {
    items.push_back(Value::string(value.as_text().bytes_between(offsets[i], offsets[i + 1])));
  }
  return items;
}

}  // namespace qlora::text::jinja
