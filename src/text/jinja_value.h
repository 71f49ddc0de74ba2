#pragma once
// The values that a chat template computes with: Python's None, bool, int, float, str, list,
// tuple and dict, Jinja's undefined and namespace, and functions.

#include "qlora/base/json.h"
#include "text/jinja_text.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace qlora::text::jinja {

class Interpreter;
class Value;

// Containers never change once built and hold at most this many levels. A namespace does change,
// so it cannot be put into a container: values have no cycles and a known depth.
inline constexpr int kMaxValueDepth = 100;

// Calls by position and by name, of functions, filters, tests and methods.
struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;

  // The argument at `position` or under `name`; null where it was not given.
  const Value* find(std::size_t position, std::string_view name) const;
};

using Items = std::vector<Value>;
using Pairs = std::vector<std::pair<Value, Value>>;
using Body = std::function<Value(Interpreter&, const Arguments&)>;

enum class Kind {
  undefined,
  none,
  boolean,
  integer,
  real,
  text,
  list,
  tuple,
  dict,
  space,
  function
};

class Value {
 public:
  // Undefined; `name` is what an error calls it.
  explicit Value(std::string name = "the value");
  static Value none();
  static Value boolean(bool value);
  static Value integer(std::int64_t value);
  static Value real(double value);
  static Value string(std::string bytes) { return string(Text(std::move(bytes))); }
  static Value string(Text text);
  static Value list(Items items);
  static Value tuple(Items items);
  // A tuple whose items have names, too.
  static Value named_tuple(Pairs members);
  static Value dict(Pairs pairs);
  static Value name_space(Pairs pairs);
  static Value function(Body body, int depth = 0);
  // Every string of `json` comes from `origin`.
  static Value from_json(const Json& json, Origin origin);

  Kind kind() const { return kind_; }
  bool is(Kind kind) const { return kind_ == kind; }
  bool is_number() const {
    return kind_ == Kind::boolean || kind_ == Kind::integer || kind_ == Kind::real;
  }
  bool is_sequence() const { return kind_ == Kind::list || kind_ == Kind::tuple; }
  bool is_mapping() const { return kind_ == Kind::dict || kind_ == Kind::space; }

  // Each throws Failure where the value is of another kind. Booleans are integers, as in Python.
  std::int64_t as_integer() const;
  double as_real() const;
  const Text& as_text() const;
  const Items& as_items() const;  // list, tuple
  const Pairs& as_pairs() const;  // dict, namespace
  const Body& as_function() const;
  const std::string& undefined_name() const;

  // The value under a key of a dict or namespace; null where there is none.
  const Value* find(const Value& key) const;
  const Value* find(std::string_view key) const;
  // The item of that name of a named tuple; null where there is none.
  const Value* member(std::string_view name) const;
  // Python's `is`, but that equal texts and whole numbers are the same.
  bool same(const Value& other) const;
  // Sets an attribute of a namespace.
  void set_attribute(const std::string& name, Value value) const;

  bool truthy() const;
  int depth() const;

 private:
  struct Container {
    Items items;
    Pairs pairs;
    int depth = 0;
  };
  struct Function {
    Body body;
    int depth = 0;
  };
  static Value container(Kind kind, Items items, Pairs pairs);

  Kind kind_ = Kind::undefined;
  std::variant<std::monostate, bool, std::int64_t, double, std::shared_ptr<const Text>,
               std::shared_ptr<Container>, std::shared_ptr<const Function>,
               std::shared_ptr<const std::string>>
      data_;
};

// Steps that an operation over all of the value is charged, see Interpreter::spend.
std::size_t cost(const Value& value);
// Python's type name, for errors.
std::string_view type_name(const Value& value);
// Python's ==; throws Failure for comparisons that do not end in reasonable time.
bool equal(const Value& a, const Value& b);
// Python's <; throws Failure where the types have no order.
bool less(const Value& a, const Value& b);
// `item in container`.
bool contains(const Value& container, const Value& item);
// len(); throws Failure where there is none. Undefined has length 0.
std::int64_t length(const Value& value);
// What a loop visits: items, keys, characters; nothing of undefined.
Items iterate(const Value& value);

// str(value) and repr(value).
Text to_text(const Value& value);
Text repr(const Value& value);

// json.dumps as transformers' tojson filter calls it.
struct JsonStyle {
  std::optional<std::string> indent;
  std::string item_separator = ", ";
  std::string key_separator = ": ";
  bool ensure_ascii = false;
  bool sort_keys = false;
};
Text to_json(const Value& value, const JsonStyle& style);

}  // namespace qlora::text::jinja
