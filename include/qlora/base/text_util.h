#pragma once
// Small text helpers shared by error messages and readers.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace qlora {

// The candidate nearest to `name` by edit distance, or empty where none is near enough to be a
// likely typing mistake.
std::string nearest_name(std::string_view name, std::span<const std::string> candidates);

// "a, b, c".
std::string join(std::span<const std::string> items, std::string_view separator = ", ");

// "1.50 GiB", "12.00 MiB", "900 B".
std::string human_bytes(std::int64_t bytes);

// Byte offset of the first malformed UTF-8 sequence, or npos where the text is well-formed
// (no surrogates, no overlong forms, at most U+10FFFF).
std::size_t find_invalid_utf8(std::string_view text);

}  // namespace qlora
