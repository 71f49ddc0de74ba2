#include "io/python_json.h"

#include "qlora/base/error.h"

#include <array>
#include <charconv>
#include <cmath>
#include <string_view>

namespace qlora::io {

std::string python_float(double value) {
  QLORA_ASSERT(std::isfinite(value));
  constexpr int kMinFixed = -4;
  constexpr int kMaxFixed = 16;
  std::array<char, 32> buffer{};
  char* const begin = buffer.data();
  char* const end = begin + buffer.size();
  const auto scientific = std::to_chars(begin, end, value, std::chars_format::scientific);
  std::string text(begin, scientific.ptr);
  const int exponent = std::stoi(text.substr(text.find('e') + 1));
  // to_chars writes exponents as Python does: a sign and at least two digits.
  if (exponent < kMinFixed || exponent >= kMaxFixed) return text;
  const auto fixed = std::to_chars(begin, end, value, std::chars_format::fixed);
  std::string result(begin, fixed.ptr);
  if (result.find('.') == std::string::npos) result += ".0";
  return result;
}

}  // namespace qlora::io
