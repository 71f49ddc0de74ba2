#include "text/byte_alphabet.h"

#include "text/unicode.h"

#include <array>

namespace qlora::text {
namespace {

constexpr char32_t kAlphabetEnd = 0x100 + 68;

struct Alphabet {
  std::array<char32_t, 256> character{};
  std::array<int, kAlphabetEnd> byte{};
};

constexpr Alphabet make_alphabet() {
  Alphabet alphabet;
  alphabet.byte.fill(-1);
  char32_t next = 0x100;
  for (char32_t byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) ||
                           (byte >= 0xAE && byte <= 0xFF);
    alphabet.character[byte] = printable ? byte : next++;
    alphabet.byte[alphabet.character[byte]] = static_cast<int>(byte);
  }
  return alphabet;
}

constexpr Alphabet kAlphabet = make_alphabet();

}  // namespace

std::optional<std::string> bytes_from_alphabet(std::string_view spelled) {
  std::string bytes;
  for (std::size_t at = 0; at < spelled.size();) {
    const char32_t character = next_char(spelled, at);
    if (character >= kAlphabetEnd || kAlphabet.byte[character] < 0) return std::nullopt;
    bytes += static_cast<char>(kAlphabet.byte[character]);
  }
  return bytes;
}

std::string bytes_to_alphabet(std::string_view bytes) {
  std::string spelled;
  for (const char byte : bytes) {
    append_char(kAlphabet.character[static_cast<unsigned char>(byte)], spelled);
  }
  return spelled;
}

}  // namespace qlora::text
