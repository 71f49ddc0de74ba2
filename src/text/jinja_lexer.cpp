#include "text/jinja_lexer.h"

#include "qlora/base/error.h"
#include "text/unicode.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

namespace qlora::text::jinja {
namespace {

constexpr std::string_view kSpaces = " \t\n\r\v\f";

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_name_start(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
         static_cast<unsigned char>(c) >= 0x80;
}

// As Jinja does: one kind of line end, and no line end after the last line.
std::string normalize_lines(std::string_view source) {
  std::string text;
  text.reserve(source.size());
  for (std::size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      text += source[i];
    } else {
      text += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    }
  }
  if (text.ends_with('\n')) text.pop_back();
  return text;
}

class Lexer {
 public:
  Lexer(std::string_view source, std::string_view where)
      : source_(normalize_lines(source)), where_(where) {}

  std::vector<Token> run() {
    while (position_ < source_.size()) {
      const std::size_t tag = find_tag();
      add_data(tag);
      if (tag == std::string::npos) break;
      open_tag(tag);
    }
    add(TokenKind::end);
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void fail_here(std::string_view what) const {
    fail("{}:{}: {}", where_, line_, what);
  }

  void move_to(std::size_t position) {
    line_ +=
        static_cast<int>(std::count(source_.begin() + static_cast<std::ptrdiff_t>(position_),
                                    source_.begin() + static_cast<std::ptrdiff_t>(position), '\n'));
    position_ = position;
  }

  void add(TokenKind kind, std::string text = {}) {
    tokens_.push_back({kind, std::move(text), line_});
  }

  bool at(std::string_view text) const {
    return source_.compare(position_, text.size(), text) == 0;
  }
  char peek(std::size_t ahead = 0) const {
    return position_ + ahead < source_.size() ? source_[position_ + ahead] : '\0';
  }

  std::size_t find_tag() const {
    for (std::size_t i = source_.find('{', position_); i != std::string::npos;
         i = source_.find('{', i + 1)) {
      const char next = i + 1 < source_.size() ? source_[i + 1] : '\0';
      if (next == '{' || next == '%' || next == '#') return i;
    }
    return std::string::npos;
  }

  // Where the text before `tag` ends once its right side is trimmed.
  std::size_t trimmed_end(std::size_t tag) const {
    const char mark = tag + 2 < source_.size() ? source_[tag + 2] : '\0';
    if (mark == '-') {
      const std::size_t last = source_.find_last_not_of(kSpaces, tag == 0 ? 0 : tag - 1);
      return tag == 0 || last == std::string::npos ? position_ : std::max(position_, last + 1);
    }
    if (mark == '+' || source_[tag + 1] == '{') return tag;
    std::size_t start = tag;
    while (start > position_ && (source_[start - 1] == ' ' || source_[start - 1] == '\t')) --start;
    const bool line_start = start == 0 || source_[start - 1] == '\n';
    return line_start ? start : tag;
  }

  void add_data(std::size_t tag) {
    const std::size_t end = tag == std::string::npos ? source_.size() : trimmed_end(tag);
    if (end > position_) add(TokenKind::data, source_.substr(position_, end - position_));
    move_to(tag == std::string::npos ? source_.size() : tag);
  }

  void open_tag(std::size_t tag) {
    const char type = source_[tag + 1];
    move_to(tag + 2);
    if (type == '#') return skip_comment();
    if (peek() == '-' || peek() == '+') move_to(position_ + 1);
    if (type == '%' && skip_raw()) return;
    add(type == '{' ? TokenKind::output_begin : TokenKind::block_begin);
    lex_inside(type == '{');
  }

  void skip_spaces() {
    move_to(std::min(source_.find_first_not_of(kSpaces, position_), source_.size()));
  }

  void skip_comment() {
    const std::size_t end = source_.find("#}", position_);
    if (end == std::string::npos) fail_here("a comment {# is not closed by #}");
    const bool minus = end > position_ && source_[end - 1] == '-';
    const bool plus = end > position_ && source_[end - 1] == '+';
    move_to(end + 2);
    if (minus) {
      skip_spaces();
    } else if (!plus && peek() == '\n') {
      move_to(position_ + 1);
    }
  }

  // {% raw %} ... {% endraw %}: the text between is data. The position is behind "{%".
  bool skip_raw() {
    const std::size_t start =
        std::min(source_.find_first_not_of(kSpaces, position_), source_.size());
    std::size_t i = start;
    if (source_.compare(i, 3, "raw") != 0) return false;
    i = std::min(source_.find_first_not_of(kSpaces, i + 3), source_.size());
    const bool trim_left = source_.compare(i, 3, "-%}") == 0;
    if (!trim_left && source_.compare(i, 2, "%}") != 0) return false;
    move_to(i + (trim_left ? 3 : 2));
    if (trim_left) skip_spaces();
    std::size_t tag = source_.find("{%", position_);
    for (; tag != std::string::npos; tag = source_.find("{%", tag + 2)) {
      std::size_t word = tag + 2;
      if (source_[word] == '-' || source_[word] == '+') ++word;
      word = std::min(source_.find_first_not_of(kSpaces, word), source_.size());
      if (source_.compare(word, 6, "endraw") == 0) {
        add_data(tag);
        move_to(word + 6);
        skip_spaces();
        if (!close_block()) fail_here("expected %} after endraw");
        return true;
      }
    }
    fail_here("raw is not closed by endraw");
  }

  // Consumes the end of a block where there is one, and the white space that it trims.
  bool close_block() {
    if (at("-%}")) {
      move_to(position_ + 3);
      skip_spaces();
    } else if (at("+%}")) {
      move_to(position_ + 3);
    } else if (at("%}")) {
      move_to(position_ + 2);
      if (peek() == '\n') move_to(position_ + 1);
    } else {
      return false;
    }
    return true;
  }

  bool close_output() {
    if (at("-}}")) {
      move_to(position_ + 3);
      skip_spaces();
    } else if (at("}}")) {
      move_to(position_ + 2);
    } else {
      return false;
    }
    return true;
  }

  void lex_inside(bool output) {
    const int opened_at = line_;
    std::string brackets;
    while (true) {
      skip_spaces();
      const int line = line_;
      if (brackets.empty() && (output ? close_output() : close_block())) {
        tokens_.push_back({output ? TokenKind::output_end : TokenKind::block_end, {}, line});
        return;
      }
      if (position_ >= source_.size()) {
        line_ = opened_at;
        fail_here(output ? "{{ is not closed by }}" : "{% is not closed by %}");
      }
      lex_token(brackets);
    }
  }

  void lex_token(std::string& brackets) {
    const char c = peek();
    if (c == '\'' || c == '"') return lex_string(c);
    if (is_digit(c)) return lex_number();
    if (is_name_start(c)) return lex_name();
    lex_symbol(brackets);
  }

  void lex_name() {
    std::size_t end = position_;
    while (end < source_.size() && (is_name_start(source_[end]) || is_digit(source_[end]))) ++end;
    add(TokenKind::name, source_.substr(position_, end - position_));
    move_to(end);
  }

  // 0x1F, 0o17 or 0b11.
  bool lex_based_number() {
    const std::string_view start = std::string_view(source_).substr(position_, 2);
    const int base = start == "0x" || start == "0X"   ? 16
                     : start == "0o" || start == "0O" ? 8
                     : start == "0b" || start == "0B" ? 2
                                                      : 0;
    if (base == 0) return false;
    std::string digits;
    std::size_t i = position_ + 2;
    for (; i < source_.size() && (is_name_start(source_[i]) || is_digit(source_[i])); ++i) {
      if (source_[i] != '_') digits += source_[i];
    }
    Token token{TokenKind::integer, digits, line_};
    const char* const end = digits.data() + digits.size();
    const auto parsed = std::from_chars(digits.data(), end, token.integer, base);
    if (parsed.ec != std::errc{} || parsed.ptr != end) {
      fail_here(fmt::format("{}{} is not a number of 63 bits", start, digits));
    }
    tokens_.push_back(token);
    move_to(i);
    return true;
  }

  void lex_number() {
    if (lex_based_number()) return;
    std::string digits;
    std::size_t i = position_;
    const auto take_digits = [&] {
      for (; i < source_.size() && (is_digit(source_[i]) || source_[i] == '_'); ++i) {
        if (source_[i] != '_') digits += source_[i];
      }
    };
    take_digits();
    bool real = false;
    if (i + 1 < source_.size() && source_[i] == '.' && is_digit(source_[i + 1])) {
      real = true;
      digits += source_[i++];
      take_digits();
    }
    if (i + 1 < source_.size() && (source_[i] == 'e' || source_[i] == 'E')) {
      const bool sign = source_[i + 1] == '-' || source_[i + 1] == '+';
      if (i + 1 + sign < source_.size() && is_digit(source_[i + 1 + sign])) {
        real = true;
        digits += 'e';
        if (source_[i + 1] == '-') digits += '-';
        i += 1 + sign;
        take_digits();
      }
    }
    Token token{real ? TokenKind::real : TokenKind::integer, digits, line_};
    const char* end = digits.data() + digits.size();
    const auto parsed = real ? std::from_chars(digits.data(), end, token.real)
                             : std::from_chars(digits.data(), end, token.integer);
    if (parsed.ec != std::errc{}) fail_here("the number " + digits + " is out of range");
    tokens_.push_back(token);
    move_to(i);
  }

  void lex_symbol(std::string& brackets) {
    static constexpr std::array<std::string_view, 26> kSymbols = {
        "==", "!=", ">=", "<=", "//", "**", "+", "-", "/", "*", "%", "~", "[",
        "]",  "(",  ")",  "{",  "}",  ">",  "<", "=", ".", ":", "|", ",", ";"};
    const auto found = std::find_if(kSymbols.begin(), kSymbols.end(),
                                    [this](std::string_view symbol) { return at(symbol); });
    if (found == kSymbols.end()) fail_here(fmt::format("unexpected character '{}'", peek()));
    const char c = (*found)[0];
    if (c == '(' || c == '[' || c == '{') brackets += c == '(' ? ')' : static_cast<char>(c + 2);
    if (c == ')' || c == ']' || c == '}') {
      if (brackets.empty() || brackets.back() != c) fail_here(fmt::format("unexpected '{}'", c));
      brackets.pop_back();
    }
    add(TokenKind::symbol, std::string(*found));
    move_to(position_ + found->size());
  }

  void lex_string(char quote) {
    std::string value;
    const int line = line_;
    std::size_t i = position_ + 1;
    while (i < source_.size() && source_[i] != quote) {
      if (source_[i] == '\\' && i + 1 < source_.size()) {
        ++i;
        read_escape(i, value);
      } else {
        value += source_[i++];
      }
    }
    if (i >= source_.size()) fail_here("a string is not closed");
    move_to(i + 1);
    tokens_.push_back({TokenKind::string, std::move(value), line});
  }

  // Python's escapes. `i` is at the character behind the backslash and moves behind the escape.
  void read_escape(std::size_t& i, std::string& value) const {
    static constexpr std::string_view kNames = "\\'\"abfnrtv";
    static constexpr std::string_view kValues = "\\'\"\a\b\f\n\r\t\v";
    const char c = source_[i];
    if (c == '\n') {
      ++i;
    } else if (const std::size_t known = kNames.find(c); known != std::string_view::npos) {
      value += kValues[known];
      ++i;
    } else if (c == 'x' || c == 'u' || c == 'U') {
      read_code(i, 1, c == 'x' ? 2 : c == 'u' ? 4 : 8, 16, value);
    } else if (c >= '0' && c <= '7') {
      std::size_t digits = 1;
      while (digits < 3 && source_[i + digits] >= '0' && source_[i + digits] <= '7') ++digits;
      read_code(i, 0, digits, 8, value);
    } else {
      value += '\\';  // an unknown escape stands for itself
    }
  }

  void read_code(std::size_t& i, std::size_t skip, std::size_t digits, int base,
                 std::string& value) const {
    std::uint32_t code = 0;
    const char* begin = source_.data() + std::min(i + skip, source_.size());
    const char* end = source_.data() + std::min(i + skip + digits, source_.size());
    const auto parsed = std::from_chars(begin, end, code, base);
    const bool surrogate = code >= 0xD800 && code <= 0xDFFF;
    if (parsed.ptr != begin + digits || code > 0x10FFFF || surrogate) {
      fail_here("a broken escape in a string");
    }
    append_char(code, value);
    i += skip + digits;
  }

  std::string source_;
  std::string_view where_;
  std::size_t position_ = 0;
  int line_ = 1;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize(std::string_view source, std::string_view where) {
  return Lexer(source, where).run();
}

std::string describe(const Token& token) {
  switch (token.kind) {
    case TokenKind::data: return "text";
    case TokenKind::output_begin: return "'{{'";
    case TokenKind::output_end: return "'}}'";
    case TokenKind::block_begin: return "'{%'";
    case TokenKind::block_end: return "'%}'";
    case TokenKind::end: return "the end of the template";
    case TokenKind::string: return "a string";
    default: return "'" + token.text + "'";
  }
}

}  // namespace qlora::text::jinja
