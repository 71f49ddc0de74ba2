#pragma once
// A settings struct (qlora/base/constraints.h) as a flat list of fields that can be set from and
// shown as text. Files, overrides, command lines, help and dumps all work on this list.

#include "qlora/base/constraints.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace qlora::config {

// What a person wrote, before it is known what it should be.
struct Value {
  enum class Kind { Null, Text, List, Other };
  Kind kind = Kind::Null;
  std::string text;                // Text; for Other what it is, in words
  std::vector<std::string> items;  // List

  static Value null() { return {}; }
  static Value of_text(std::string text) { return {Kind::Text, std::move(text), {}}; }
  static Value of_list(std::vector<std::string> items) {
    return {Kind::List, {}, std::move(items)};
  }
  bool operator==(const Value&) const = default;
};

// What a field's constraints add up to.
struct Rules {
  std::optional<Range> range;
  std::optional<OneOf> one_of;
  std::optional<std::string> bare_value;
  std::string unset_word;
  bool required = false;
  bool steps_or_share = false;
  bool positional = false;

  void add(const Range& rule) { range = rule; }
  void add(const OneOf& rule) { one_of = rule; }
  void add(const BareValue& rule) { bare_value = rule.value; }
  void add(const Unset& rule) { unset_word = rule.word; }
  void add(Required /*rule*/) { required = true; }
  void add(StepsOrShare /*rule*/) { steps_or_share = true; }
  void add(Positional /*rule*/) { positional = true; }
};

// Each reads one kind of member: false where the value is no such thing or breaks a rule.
bool parse(const Value& value, const Rules& rules, bool& member);
bool parse(const Value& value, const Rules& rules, std::int64_t& member);
bool parse(const Value& value, const Rules& rules, double& member);
bool parse(const Value& value, const Rules& rules, std::string& member);
bool parse(const Value& value, const Rules& rules, std::vector<std::string>& member);
bool parse(const Value& value, const Rules& rules, std::vector<double>& member);
bool parse(const Value& value, const Rules& rules, StringOrList& member);

Value show(bool member);
Value show(std::int64_t member);
Value show(double member);
Value show(const std::string& member);
Value show(const std::vector<std::string>& member);
Value show(const std::vector<double>& member);
Value show(const StringOrList& member);

// The kind of a member, in words: "a whole number of at least 1".
std::string expected(const Rules& rules, const bool& member);
std::string expected(const Rules& rules, const std::int64_t& member);
std::string expected(const Rules& rules, const double& member);
std::string expected(const Rules& rules, const std::string& member);
std::string expected(const Rules& rules, const std::vector<std::string>& member);
std::string expected(const Rules& rules, const std::vector<double>& member);
std::string expected(const Rules& rules, const StringOrList& member);
std::string expected_choice(const std::vector<std::string>& choices);
std::string expected_entries(bool optional);

// The key of an entry of a list: "data.train[0]".
std::string entry_key(std::string_view list, std::size_t index);

template <NamedEnum E>
bool parse(const Value& value, const Rules& /*rules*/, E& member) {
  if (value.kind != Value::Kind::Text) return false;
  for (const auto& known : enum_names(member)) {
    if (known.name == value.text) {
      member = known.value;
      return true;
    }
  }
  return false;
}

template <NamedEnum E>
Value show(E member) {
  return Value::of_text(std::string(enum_name(member)));
}

template <NamedEnum E>
std::vector<std::string> names_of_values(E member) {
  std::vector<std::string> names;
  for (const auto& known : enum_names(member)) names.emplace_back(known.name);
  return names;
}

template <NamedEnum E>
std::string expected(const Rules& /*rules*/, const E& member) {
  return expected_choice(names_of_values(member));
}

template <class T>
bool parse(const Value& value, const Rules& rules, std::optional<T>& member) {
  const bool unset = value.kind == Value::Kind::Null ||
                     (value.kind == Value::Kind::Text && !rules.unset_word.empty() &&
                      value.text == rules.unset_word);
  member.reset();
  return unset || parse(value, rules, member.emplace());
}

template <class T>
Value show(const std::optional<T>& member) {
  return member ? show(*member) : Value::null();
}

template <class T>
std::string expected(const Rules& rules, const std::optional<T>& /*member*/) {
  return expected(rules, T{}) + " or " + (rules.unset_word.empty() ? "null" : rules.unset_word);
}

template <class T>
struct Traits {
  static constexpr bool optional = false;
  using Inner = T;
};
template <class T>
struct Traits<std::optional<T>> {
  static constexpr bool optional = true;
  using Inner = T;
};

struct Schema;

struct Field {
  std::string key;  // with its sections: "training.max_steps"
  std::string help;
  std::string expected;
  std::vector<std::string> choices;  // of an enum or a OneOf
  Rules rules;
  bool is_bool = false;
  bool is_list = false;                      // may be a list
  bool is_optional = false;                  // may be null
  std::function<bool(const Value&)> assign;  // leaves the member alone where it returns false
  std::function<Value()> shown;

  // Of a list of settings structs alone, which has neither of the two above:
  std::shared_ptr<const Schema> entry;  // one with its defaults
  // Gives the list so many entries with their defaults, and describes each.
  std::function<std::vector<Schema>(std::size_t count)> resize;
  std::function<std::vector<Schema>()> entries;  // describes each
};

struct Section {
  std::string key;
  std::string help;
};

// Refers to the struct it describes, which must outlive it.
struct Schema {
  std::vector<Field> fields;  // in the struct's order
  std::vector<Section> sections;

  const Field* find(std::string_view key) const;
  bool has_section(std::string_view key) const;
  // What a bare text stands for where an entry of a list is expected.
  const Field& positional() const;
};

// A broken rule over several members.
struct Problem {
  std::string key;
  std::string text;
};

// The part of a visitor that walks nested structs.
template <class Self>
class SectionWalker {
 public:
  template <class S>
  void section(std::string_view key, S& nested, std::string_view help) {
    const std::string outer = prefix_;
    static_cast<Self*>(this)->enter(path(key), help);
    prefix_ = path(key) + ".";
    nested.visit(*static_cast<Self*>(this));
    prefix_ = outer;
  }

 protected:
  std::string path(std::string_view key) const { return prefix_ + std::string(key); }

 private:
  std::string prefix_;
};

class Describer : public SectionWalker<Describer> {
 public:
  template <class T, class... Constraints>
  void field(std::string_view key, T& member, std::string_view help,
             const Constraints&... constraints) {
    using Inner = typename Traits<T>::Inner;
    Field field;
    field.key = path(key);
    field.help = help;
    (field.rules.add(constraints), ...);
    field.expected = expected(field.rules, member);
    if constexpr (NamedEnum<Inner>) field.choices = names_of_values(Inner{});
    if (field.rules.one_of) field.choices = field.rules.one_of->values;
    field.is_bool = std::is_same_v<Inner, bool>;
    field.is_list = std::is_same_v<Inner, std::vector<std::string>> ||
                    std::is_same_v<Inner, std::vector<double>> ||
                    std::is_same_v<Inner, StringOrList>;
    field.is_optional = Traits<T>::optional;
    field.assign = [&member, rules = field.rules](const Value& value) {
      T parsed = member;
      if (!parse(value, rules, parsed)) return false;
      member = std::move(parsed);
      return true;
    };
    field.shown = [&member] { return show(member); };
    schema.fields.push_back(std::move(field));
  }

  template <class S, class... Constraints>
  void list(std::string_view key, std::vector<S>& member, std::string_view help,
            const Constraints&... constraints) {
    Field field;
    field.key = path(key);
    field.help = help;
    (field.rules.add(constraints), ...);
    field.is_list = true;
    field.is_optional = !field.rules.required;
    field.expected = expected_entries(field.is_optional);
    struct Fresh {
      S settings;
      Schema schema;
    };
    auto fresh = std::make_shared<Fresh>();
    fresh->schema = describe_entry(field.key, fresh->settings);
    field.entry = {fresh, &fresh->schema};
    field.entries = [&member, key = field.key] {
      std::vector<Schema> schemas;
      for (std::size_t i = 0; i < member.size(); ++i) {
        schemas.push_back(describe_entry(entry_key(key, i), member[i]));
      }
      return schemas;
    };
    field.resize = [&member, entries = field.entries](std::size_t count) {
      member.assign(count, S{});
      return entries();
    };
    schema.fields.push_back(std::move(field));
  }

  void enter(std::string key, std::string_view help) {
    schema.sections.push_back({std::move(key), std::string(help)});
  }
  void check(bool /*condition*/, std::string_view /*key*/, std::string_view /*problem*/) {}

  Schema schema;

 private:
  template <class S>
  static Schema describe_entry(const std::string& key, S& settings) {
    Describer describer;
    describer.section(key, settings, "");
    return std::move(describer.schema);
  }
};

class Checker : public SectionWalker<Checker> {
 public:
  template <class T, class... Constraints>
  void field(std::string_view, T&, std::string_view, const Constraints&...) {}
  template <class S, class... Constraints>
  void list(std::string_view key, std::vector<S>& member, std::string_view help,
            const Constraints&...) {
    for (std::size_t i = 0; i < member.size(); ++i) section(entry_key(key, i), member[i], help);
  }
  void enter(const std::string& /*key*/, std::string_view /*help*/) {}
  void check(bool condition, std::string_view key, std::string_view problem) {
    if (!condition) problems.push_back({path(key), std::string(problem)});
  }

  std::vector<Problem> problems;
};

template <class T>
Schema describe(T& settings) {
  Describer describer;
  settings.visit(describer);
  return std::move(describer.schema);
}

template <class T>
std::vector<Problem> broken_rules(T& settings) {
  Checker checker;
  settings.visit(checker);
  return std::move(checker.problems);
}

// Throws Error "NAME (WHERE): expected ..., got ...".
[[noreturn]] void fail_value(const Field& field, const Value& value, std::string_view name,
                             std::string_view where);
// Assigns, or fails so.
void assign_or_fail(const Field& field, const Value& value, std::string_view name,
                    std::string_view where);

// "did you mean NAME?", or "known: a, b, c" where none is near.
std::string suggestion(std::string_view name, const std::vector<std::string>& known);

}  // namespace qlora::config
