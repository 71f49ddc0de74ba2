#pragma once
// Strings of a chat template that remember, byte by byte, where they came from, with the
// operations of Python's str. Positions count code points, as in Python, where not said otherwise.

#include "qlora/base/error.h"

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace qlora::text::jinja {

// A template's mistake while it renders. The interpreter adds the template's name and the line.
class Failure : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

template <class... Args>
[[noreturn]] void raise(fmt::format_string<Args...> format, Args&&... args) {
  throw Failure(fmt::format(format, std::forward<Args>(args)...));
}

// 0: the template wrote it. Greater: it was copied from that source of the render's input.
using Origin = std::uint16_t;
inline constexpr Origin kTemplate = 0;

// No string of a render grows past this, so a hostile template cannot take the memory.
inline constexpr std::size_t kMaxTextBytes = std::size_t{4} << 20;
inline constexpr std::size_t kMaxItems = 1'000'000;

class Text {
 public:
  Text() = default;
  explicit Text(std::string bytes, Origin origin = kTemplate);

  const std::string& bytes() const { return bytes_; }
  std::size_t size() const { return bytes_.size(); }
  bool empty() const { return bytes_.empty(); }
  Origin origin(std::size_t byte) const { return origins_.empty() ? kTemplate : origins_[byte]; }
  // The first origin that is not the template; kTemplate where there is none.
  Origin first_origin() const;

  // Throws Failure past kMaxTextBytes.
  void append(const Text& other);
  void append(std::string_view bytes, Origin origin = kTemplate);
  // Bytes [begin, end).
  Text bytes_between(std::size_t begin, std::size_t end) const;

 private:
  void reserve_origins();

  std::string bytes_;
  std::vector<Origin> origins_;  // one a byte, or empty where all is the template's
};

// The byte offset of each code point, then the size in bytes.
std::vector<std::size_t> code_points(std::string_view bytes);
// The code point at `offset`, which moves behind it. Malformed bytes give U+FFFD each.
std::uint32_t next_code_point(std::string_view bytes, std::size_t& offset);
// str.isspace, isalpha and isalnum of one character.
bool is_space(std::uint32_t code_point);
bool is_letter(std::uint32_t code_point);
bool is_alphanumeric(std::uint32_t code_point);

enum class Side { both, left, right };
// Removes the characters of `chars` (white space where null) from the ends.
Text strip(const Text& text, const std::string* chars, Side side);
// At most `limit` replacements; all where negative.
Text replace(const Text& text, std::string_view from, const Text& to, std::int64_t limit);
// str.split; runs of white space where `separator` is null. At most `limit` cuts, all where < 0.
std::vector<Text> split(const Text& text, const std::string* separator, std::int64_t limit);
// The same from the right: str.rsplit.
std::vector<Text> split_from_right(const Text& text, const std::string* separator,
                                   std::int64_t limit);
std::vector<Text> split_lines(const Text& text, bool keep_ends);
// The text in `width` characters, filled up with `fill` at this side, which is one character; at
// `both` as str.center does.
Text pad(const Text& text, std::int64_t width, Side side, const Text& fill);
// The first `count` characters.
Text first_characters(const Text& text, std::int64_t count);

// `title` is str.title; `words` is Jinja's filter, which leaves "it's" one word.
enum class Case { upper, lower, capitalize, title, words, swap };
Text change_case(const Text& text, Case to);

}  // namespace qlora::text::jinja
