#pragma once
// The alphabet in which byte-level BPE files spell bytes (GPT-2, encoder.py bytes_to_unicode):
// printable Latin-1 characters stand for themselves, the other 68 bytes for U+0100 upwards.

#include <optional>
#include <string>
#include <string_view>

namespace qlora::text {

// The bytes that `spelled` (UTF-8) stands for, or nothing where a character is not of the alphabet.
std::optional<std::string> bytes_from_alphabet(std::string_view spelled);

std::string bytes_to_alphabet(std::string_view bytes);

}  // namespace qlora::text
