#pragma once
// Integer arithmetic that refuses to lose information.

#include "qlora/base/error.h"

#include <concepts>
#include <cstdint>
#include <utility>

namespace qlora {

// The same number in another integer type; throws Error where it does not fit.
template <std::integral To, std::integral From>
constexpr To narrow(From value) {
  if (!std::in_range<To>(value)) fail("the number {} is out of range", value);
  return static_cast<To>(value);
}

// a / b where b divides a; throws Error otherwise.
template <std::integral T>
constexpr T div_exact(T a, T b) {
  if (b == 0 || a % b != 0) fail("{} is not a multiple of {}", a, b);
  return a / b;
}

template <std::integral T>
constexpr T div_up(T a, T b) {
  return (a + b - 1) / b;
}

// The least multiple of `unit` that is not below a.
template <std::integral T>
constexpr T round_up(T a, T unit) {
  return div_up(a, unit) * unit;
}

// a * b; throws Error on overflow (sizes that come from files pass through here).
inline std::int64_t checked_mul(std::int64_t a, std::int64_t b) {
  std::int64_t product = 0;
  if (__builtin_mul_overflow(a, b, &product)) fail("the size {} x {} overflows", a, b);
  return product;
}

}  // namespace qlora
