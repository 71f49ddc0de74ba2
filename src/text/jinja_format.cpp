// Values as text: Python's str, repr and json.dumps.

#include "text/jinja_value.h"
#include "text/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <cmath>

namespace qlora::text::jinja {
namespace {

std::string format_real(double number) {
  if (std::isnan(number)) return "nan";
  if (std::isinf(number)) return number > 0 ? "inf" : "-inf";
  std::string text = fmt::format("{}", number);
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  return text;
}

std::string format_scalar(const Value& value) {
  switch (value.kind()) {
    case Kind::none: return "None";
    case Kind::boolean: return value.truthy() ? "True" : "False";
    case Kind::integer: return std::to_string(value.as_integer());
    case Kind::real: return format_real(value.as_real());
    case Kind::function: return "<function>";
    default: return "";
  }
}

bool printable(std::uint32_t c) {
  if (c == ' ') return true;
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS: return false;
    default: return true;
  }
}

std::string repr_character(std::uint32_t c, char quote) {
  if (c == static_cast<unsigned char>(quote) || c == '\\') {
    return {'\\', static_cast<char>(c)};
  }
  if (c == '\n') return "\\n";
  if (c == '\r') return "\\r";
  if (c == '\t') return "\\t";
  if (!printable(c)) {
    if (c < 0x100) return fmt::format("\\x{:02x}", c);
    return c < 0x10000 ? fmt::format("\\u{:04x}", c) : fmt::format("\\U{:08x}", c);
  }
  std::string plain;
  append_char(c, plain);
  return plain;
}

void append_repr(Text& out, const Text& text) {
  const std::string& bytes = text.bytes();
  const bool double_quotes =
      bytes.find('\'') != std::string::npos && bytes.find('"') == std::string::npos;
  const char quote = double_quotes ? '"' : '\'';
  out.append(std::string(1, quote));
  for (std::size_t offset = 0; offset < bytes.size();) {
    const Origin origin = text.origin(offset);
    out.append(repr_character(next_code_point(bytes, offset), quote), origin);
  }
  out.append(std::string(1, quote));
}

void append_repr(Text& out, const Value& value);

void append_repr_items(Text& out, const Value& value) {
  const bool tuple = value.is(Kind::tuple);
  out.append(tuple ? "(" : "[");
  const Items& items = value.as_items();
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (i > 0) out.append(", ");
    append_repr(out, items[i]);
  }
  out.append(!tuple ? "]" : items.size() == 1 ? ",)" : ")");
}

void append_repr(Text& out, const Value& value) {
  if (value.is(Kind::text)) return append_repr(out, value.as_text());
  if (value.is_sequence()) return append_repr_items(out, value);
  if (!value.is_mapping()) return out.append(format_scalar(value));
  out.append("{");
  bool first = true;
  for (const auto& [key, item] : value.as_pairs()) {
    if (!first) out.append(", ");
    first = false;
    append_repr(out, key);
    out.append(": ");
    append_repr(out, item);
  }
  out.append("}");
}

std::string json_character(std::uint32_t c, bool ensure_ascii) {
  switch (c) {
    case '"': return "\\\"";
    case '\\': return "\\\\";
    case '\n': return "\\n";
    case '\r': return "\\r";
    case '\t': return "\\t";
    case '\b': return "\\b";
    case '\f': return "\\f";
    default: break;
  }
  if (c < 0x20 || (ensure_ascii && c > 0x7E && c < 0x10000 && c != 0x7F)) {
    return fmt::format("\\u{:04x}", c);
  }
  if (ensure_ascii && c >= 0x10000) {  // a surrogate pair
    const std::uint32_t rest = c - 0x10000;
    return fmt::format("\\u{:04x}\\u{:04x}", 0xD800 + (rest >> 10), 0xDC00 + (rest & 0x3FF));
  }
  std::string plain;
  append_char(c, plain);
  return plain;
}

class JsonWriter {
 public:
  JsonWriter(Text& out, const JsonStyle& style) : out_(out), style_(style) {}

  void write(const Value& value, int level) {
    switch (value.kind()) {
      case Kind::none: return out_.append("null");
      case Kind::boolean: return out_.append(value.truthy() ? "true" : "false");
      case Kind::integer: return out_.append(std::to_string(value.as_integer()));
      case Kind::real: return write_real(value.as_real());
      case Kind::text: return write_text(value.as_text());
      case Kind::list:
      case Kind::tuple: return write_items(value.as_items(), level);
      case Kind::dict: return write_pairs(value.as_pairs(), level);
      default: raise("tojson: {} is not JSON serializable", type_name(value));
    }
  }

 private:
  void write_real(double number) {
    if (std::isnan(number)) return out_.append("NaN");
    if (std::isinf(number)) return out_.append(number > 0 ? "Infinity" : "-Infinity");
    out_.append(format_real(number));
  }

  void write_text(const Text& text) {
    out_.append("\"");
    for (std::size_t offset = 0; offset < text.size();) {
      const Origin origin = text.origin(offset);
      const std::uint32_t c = next_code_point(text.bytes(), offset);
      out_.append(json_character(c, style_.ensure_ascii), origin);
    }
    out_.append("\"");
  }

  void write_key(const Value& key) {
    if (key.is(Kind::text)) return write_text(key.as_text());
    Text plain;
    JsonWriter(plain, style_).write(key, 0);
    if (key.is_sequence() || key.is_mapping()) raise("tojson: a key is {}", type_name(key));
    write_text(plain);
  }

  void break_line(int level) {
    if (!style_.indent) return;
    out_.append("\n");
    for (int i = 0; i < level; ++i) out_.append(*style_.indent);
  }

  void write_items(const Items& items, int level) {
    if (items.empty()) return out_.append("[]");
    out_.append("[");
    for (std::size_t i = 0; i < items.size(); ++i) {
      if (i > 0) out_.append(style_.item_separator);
      break_line(level + 1);
      write(items[i], level + 1);
    }
    break_line(level);
    out_.append("]");
  }

  void write_pairs(Pairs pairs, int level) {
    if (pairs.empty()) return out_.append("{}");
    if (style_.sort_keys) {
      std::stable_sort(pairs.begin(), pairs.end(),
                       [](const auto& a, const auto& b) { return less(a.first, b.first); });
    }
    out_.append("{");
    for (std::size_t i = 0; i < pairs.size(); ++i) {
      if (i > 0) out_.append(style_.item_separator);
      break_line(level + 1);
      write_key(pairs[i].first);
      out_.append(style_.key_separator);
      write(pairs[i].second, level + 1);
    }
    break_line(level);
    out_.append("}");
  }

  Text& out_;
  const JsonStyle& style_;
};

}  // namespace

Text repr(const Value& value) {
  Text out;
  append_repr(out, value);
  return out;
}

Text to_text(const Value& value) { return value.is(Kind::text) ? value.as_text() : repr(value); }

Text to_json(const Value& value, const JsonStyle& style) {
  Text out;
  JsonWriter(out, style).write(value, 0);
  return out;
}

}  // namespace qlora::text::jinja
