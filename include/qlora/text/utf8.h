#pragma once
// Making any bytes well-formed UTF-8.

#include <cstddef>
#include <string>
#include <string_view>

namespace qlora::text {

// Passes well-formed UTF-8 on and puts U+FFFD for each maximal part of a malformed sequence
// (Unicode 15, 3.9, "Substitution of Maximal Subparts"; the same as Python and Rust), whatever
// the places at which the input is cut.
class Utf8Repair {
 public:
  // Appends what `bytes` completes to `out`; keeps an unfinished character for the next call.
  void push(std::string_view bytes, std::string& out);
  // Appends U+FFFD for an unfinished character.
  void flush(std::string& out);

 private:
  std::string pending_;  // at most 3 bytes: a proper prefix of a well-formed character
};

std::string repair_utf8(std::string_view bytes);

}  // namespace qlora::text
