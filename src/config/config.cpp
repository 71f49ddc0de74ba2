#include "qlora/config/config.h"

#include "config/yaml.h"
#include "qlora/base/error.h"
#include "qlora/base/file.h"
#include "qlora/base/text_util.h"

#include <algorithm>

namespace qlora::config {
namespace {

constexpr std::size_t kMaxBytes = 1 << 20;
constexpr std::string_view kCommandLine = "command line";

std::string section_of(std::string_view key) {
  const std::size_t dot = key.rfind('.');
  return dot == std::string_view::npos ? "" : std::string(key.substr(0, dot));
}

std::string leaf_of(std::string_view key) {
  const std::size_t dot = key.rfind('.');
  return std::string(dot == std::string_view::npos ? key : key.substr(dot + 1));
}

[[noreturn]] void fail_unknown(const Schema& schema, const std::string& key,
                               std::string_view where) {
  const std::string leaf = leaf_of(key);
  std::vector<std::string> siblings;
  const auto collect = [&](const auto& entries) {
    for (const auto& entry : entries) {
      if (section_of(entry.key) == section_of(key)) siblings.push_back(leaf_of(entry.key));
    }
  };
  collect(schema.fields);
  collect(schema.sections);
  for (const Field& field : schema.fields) {
    if (leaf_of(field.key) == leaf)
      fail("{} ({}): unknown key; did you mean {}?", key, where, field.key);
  }
  fail("{} ({}): unknown key; {}", key, where, suggestion(leaf, siblings));
}

Value value_of(const Node& node) {
  switch (node.kind) {
    case Node::Kind::Null: return Value::null();
    case Node::Kind::Scalar: return Value::of_text(node.text);
    case Node::Kind::Map: return {Value::Kind::Other, "a section of key: value lines", {}};
    case Node::Kind::List: break;
  }
  Value list = Value::of_list({});
  for (const Node& item : node.items) {
    if (item.kind != Node::Kind::Scalar)
      return {Value::Kind::Other, "a list of other things than texts", {}};
    list.items.push_back(item.text);
  }
  return list;
}

void expect_required(const Schema& schema, const Locations& given, std::string_view where) {
  for (const Field& field : schema.fields) {
    if (field.rules.required && !given.contains(field.key)) {
      fail("{} ({}): missing; expected {}: {}", field.key, where, field.expected, field.help);
    }
  }
}

// Walks one document, key by key.
class Reader {
 public:
  Reader(const Schema& schema, std::string_view source, Locations& locations)
      : schema_(schema), source_(source), locations_(locations) {}

  void read_section(const Node& node, const std::string& key) {
    if (node.kind == Node::Kind::Null) return;
    if (node.kind != Node::Kind::Map) {
      fail("{}: expected key: value lines",
           key.empty() ? at(node) : fmt::format("{} ({})", key, at(node)));
    }
    for (std::size_t i = 0; i + 1 < node.items.size(); i += 2) {
      read_entry(node.items[i], node.items[i + 1], key);
    }
  }

  // One entry, or a list of them.
  void read_list(const Field& list, const Node& node, const std::string& where) {
    const bool unset = node.kind == Node::Kind::Null;
    if (unset && list.is_optional) {
      list.resize(0);
      return;
    }
    const bool several = node.kind == Node::Kind::List;
    if (unset || (several && node.items.empty())) {
      fail_value(list, value_of(node), list.key, where);
    }
    const auto entries = several ? std::span(node.items) : std::span(&node, 1);
    const std::vector<Schema> schemas = list.resize(entries.size());
    for (std::size_t i = 0; i < entries.size(); ++i) {
      read_list_entry(schemas[i], entries[i], entry_key(list.key, i));
    }
  }

 private:
  std::string at(const Node& node) const {
    return source_ == kCommandLine ? source_ : fmt::format("{}:{}", source_, node.line);
  }

  void read_list_entry(const Schema& schema, const Node& entry, const std::string& key) {
    if (entry.kind != Node::Kind::Map) {
      return assign_or_fail(schema.positional(), value_of(entry), key, at(entry));
    }
    Reader(schema, source_, locations_).read_section(entry, key);
    expect_required(schema, locations_, at(entry));
  }

  void read_entry(const Node& name, const Node& value, const std::string& section) {
    if (name.kind != Node::Kind::Scalar) fail("{}: expected a key that is a name", at(name));
    const std::string key = section.empty() ? name.text : section + "." + name.text;
    const std::string where = at(name);
    const auto [first, fresh] = locations_.emplace(key, where);
    if (!fresh) fail("{} ({}): given twice; first at {}", key, where, first->second);
    if (schema_.has_section(key)) return read_section(value, key);
    const Field* field = schema_.find(key);
    if (field == nullptr) fail_unknown(schema_, key, where);
    if (field->entry) return read_list(*field, value, where);
    assign_or_fail(*field, value_of(value), key, where);
  }

  const Schema& schema_;
  std::string source_;
  Locations& locations_;
};

// An override's text is taken as it stands (a regular expression needs no quotes), except that
// null unsets and [a, b] is a list where the key takes one.
Node override_node(const Field& field, const std::string& text) {
  if (field.is_optional && text == "null") return {};
  Node scalar;
  scalar.kind = Node::Kind::Scalar;
  scalar.text = text;
  if (!field.is_list || !text.starts_with('[') || !text.ends_with(']')) return scalar;
  try {
    return parse_yaml(text, kCommandLine);
  } catch (const Error&) {
    return scalar;
  }
}

void apply_override(const Schema& schema, const std::string& text, Locations& seen) {
  const std::size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0) {
    fail("'{}' (command line): expected section.key=value", text);
  }
  if (find_invalid_utf8(text) != std::string_view::npos) {
    fail("'{}' (command line): not valid UTF-8", text.substr(0, equals));
  }
  const std::string key = text.substr(0, equals);
  if (schema.has_section(key)) {
    fail("{} (command line): a section; expected {}.key=value", key, key);
  }
  const Field* field = schema.find(key);
  if (field == nullptr) fail_unknown(schema, key, kCommandLine);
  if (!seen.emplace(key, kCommandLine).second) fail("{} (command line): given twice", key);
  const Node node = override_node(*field, text.substr(equals + 1));
  const std::string where(kCommandLine);
  if (field->entry) return Reader(schema, where, seen).read_list(*field, node, where);
  assign_or_fail(*field, value_of(node), key, where);
}

std::string value_as_yaml(const Value& value) {
  if (value.kind == Value::Kind::Null) return "null";
  if (value.kind == Value::Kind::Text) return yaml_scalar(value.text);
  std::vector<std::string> items;
  for (const auto& item : value.items) items.push_back(yaml_scalar(item));
  return "[" + join(items) + "]";
}

// What of an entry differs from its defaults; its positional text alone where that is all.
std::string entry_as_yaml(const Schema& entry, const Schema& fresh) {
  std::vector<std::string> stated;
  bool bare = true;
  for (std::size_t i = 0; i < entry.fields.size(); ++i) {
    const Value value = entry.fields[i].shown();
    if (value == fresh.fields[i].shown()) continue;
    bare = bare && entry.fields[i].rules.positional;
    stated.push_back(fmt::format("{}: {}", leaf_of(entry.fields[i].key), value_as_yaml(value)));
  }
  if (bare) return value_as_yaml(entry.positional().shown());
  return "{" + join(stated) + "}";
}

std::string list_as_yaml(const Field& list) {
  std::vector<std::string> entries;
  for (const Schema& entry : list.entries()) entries.push_back(entry_as_yaml(entry, *list.entry));
  if (entries.empty()) return "null";
  return entries.size() == 1 ? entries.front() : "[" + join(entries) + "]";
}

std::string shown_as_yaml(const Field& field) {
  if (field.entry) return list_as_yaml(field);
  const Value value = field.shown();
  const bool unset = value.kind == Value::Kind::Null && !field.rules.unset_word.empty();
  return unset ? field.rules.unset_word : value_as_yaml(value);
}

std::string state_of(const Field& field) {
  return field.rules.required ? "required" : shown_as_yaml(field);
}

std::vector<std::string> parts_of(std::string_view key) {
  std::vector<std::string> parts;
  for (std::size_t dot = key.find('.'); dot != std::string_view::npos; dot = key.find('.')) {
    parts.emplace_back(key.substr(0, dot));
    key.remove_prefix(dot + 1);
  }
  parts.emplace_back(key);
  return parts;
}

}  // namespace

Locations apply(const Schema& schema, std::string_view yaml, std::string_view source,
                std::span<const std::string> overrides) {
  Locations locations;
  Reader(schema, source, locations).read_section(parse_yaml(yaml, source), "");
  Locations overridden;
  for (const std::string& text : overrides) apply_override(schema, text, overridden);
  overridden.merge(locations);
  expect_required(schema, overridden, source);
  return overridden;
}

void report(std::span<const Problem> problems, const Locations& locations,
            std::string_view source) {
  if (problems.empty()) return;
  const auto [key, text] = problems.front();
  const auto where = locations.find(key);
  fail("{} ({}): {}", key, where == locations.end() ? source : where->second, text);
}

std::string read_config_text(const std::filesystem::path& path) {
  const MappedFile file(path);
  if (file.bytes().size() > kMaxBytes) {
    fail("{}: {} is too long for a configuration file; expected YAML of at most {}", path.string(),
         human_bytes(static_cast<std::int64_t>(file.bytes().size())), human_bytes(kMaxBytes));
  }
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

std::string dump_schema(const Schema& schema) {
  std::string text;
  std::vector<std::string> open;
  for (const Field& field : schema.fields) {
    std::vector<std::string> parts = parts_of(field.key);
    const std::string leaf = std::move(parts.back());
    parts.pop_back();
    const auto common = std::ranges::mismatch(parts, open).in1 - parts.begin();
    for (auto level = static_cast<std::size_t>(common); level < parts.size(); ++level) {
      text += fmt::format("{:{}}{}:\n", "", 2 * level, parts[level]);
    }
    open = parts;
    text += fmt::format("{:{}}{}: {}\n", "", 2 * open.size(), leaf, shown_as_yaml(field));
  }
  return text;
}

std::string help_schema(const Schema& schema) {
  std::string text;
  std::string section;
  for (const Field& field : schema.fields) {
    if (section_of(field.key) != section) {
      section = section_of(field.key);
      const auto entry = std::ranges::find(schema.sections, section, &Section::key);
      text += fmt::format("\n{}: {}\n", section, entry->help);
    }
    text += fmt::format("  {} ({})\n      {}; {}\n", leaf_of(field.key), state_of(field),
                        field.help, field.expected);
    if (!field.entry) continue;
    for (const Field& key : field.entry->fields) {
      text += fmt::format("      {} ({}): {}; {}\n", leaf_of(key.key), state_of(key), key.help,
                          key.expected);
    }
  }
  return text;
}

}  // namespace qlora::config
