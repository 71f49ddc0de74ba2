#pragma once
// Characters of well-formed UTF-8 and the few Unicode properties that tokenizers ask for.

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace qlora::text {

// The character at byte `at`, which moves past it. `text` is well-formed, at < text.size().
inline char32_t next_char(std::string_view text, std::size_t& at) {
  const auto byte = [&] { return static_cast<unsigned char>(text[at++]); };
  const char32_t lead = byte();
  if (lead < 0x80) return lead;
  char32_t value = lead < 0xE0 ? lead & 0x1F : lead < 0xF0 ? lead & 0x0F : lead & 0x07;
  for (int more = lead < 0xE0 ? 1 : lead < 0xF0 ? 2 : 3; more > 0; --more) {
    value = value << 6 | (byte() & 0x3F);
  }
  return value;
}

// The start of the character that ends before byte `at` > 0.
inline std::size_t previous_start(std::string_view text, std::size_t at) {
  do --at;
  while ((static_cast<unsigned char>(text[at]) & 0xC0) == 0x80);
  return at;
}

void append_char(char32_t character, std::string& out);

// `pattern` is not empty.
std::string replace_all(std::string_view text, std::string_view pattern, std::string_view content);

// "\u2581" -> " ": how sentencepiece writes spaces.
std::string spaces_from_marks(std::string_view text);
// "<0x0A>" -> its byte: how sentencepiece writes single bytes. Nothing for any other piece.
std::optional<char> byte_of_piece(std::string_view piece);

bool is_ascii(std::string_view text);
bool is_whitespace(char32_t character);  // property White_Space
bool is_numeric(char32_t character);     // categories Nd, Nl, No
bool is_word(char32_t character);        // letters, marks, decimal digits, connectors: \w

}  // namespace qlora::text
