#pragma once
// SHA-256 (FIPS 180-4) of a few bytes, as lower-case hexadecimal digits.

#include "qlora/base/error.h"

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace qlora::kernels::test {

// The first 32 bits of the fractional part of a prime's square (order 2) or cube root (order 3).
inline std::uint32_t root_bits(int prime, int order) {
  const long double root = order == 2 ? std::sqrt(static_cast<long double>(prime))
                                      : std::cbrt(static_cast<long double>(prime));
  return static_cast<std::uint32_t>((root - std::floor(root)) * 0x1p32L);
}

inline std::vector<int> first_primes(std::size_t count) {
  std::vector<int> primes;
  for (int n = 2; primes.size() < count; ++n) {
    bool prime = true;
    for (const int p : primes) prime = prime && n % p != 0;
    if (prime) primes.push_back(n);
  }
  return primes;
}

inline void sha256_block(const std::uint8_t* block, std::array<std::uint32_t, 8>& state) {
  static const std::vector<int> primes = first_primes(64);
  std::array<std::uint32_t, 64> w{};
  for (int i = 0; i < 16; ++i) {
    w[i] = block[4 * i] << 24 | block[4 * i + 1] << 16 | block[4 * i + 2] << 8 | block[4 * i + 3];
  }
  const auto mix = [](std::uint32_t x, int a, int b) { return std::rotr(x, a) ^ std::rotr(x, b); };
  for (int i = 16; i < 64; ++i) {
    w[i] = (mix(w[i - 2], 17, 19) ^ w[i - 2] >> 10) + w[i - 7] +
           (mix(w[i - 15], 7, 18) ^ w[i - 15] >> 3) + w[i - 16];
  }
  auto s = state;
  for (int i = 0; i < 64; ++i) {
    const std::uint32_t choice = (s[4] & s[5]) ^ (~s[4] & s[6]);
    const std::uint32_t majority = (s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]);
    const std::uint32_t t1 =
        s[7] + (mix(s[4], 6, 11) ^ std::rotr(s[4], 25)) + choice + root_bits(primes[i], 3) + w[i];
    const std::uint32_t t2 = (mix(s[0], 2, 13) ^ std::rotr(s[0], 22)) + majority;
    s = {t1 + t2, s[0], s[1], s[2], s[3] + t1, s[4], s[5], s[6]};
  }
  for (int i = 0; i < 8; ++i) state[i] += s[i];
}

inline std::string sha256(std::span<const std::byte> bytes) {
  std::vector<std::uint8_t> text;
  for (const std::byte byte : bytes) text.push_back(static_cast<std::uint8_t>(byte));
  text.push_back(0x80);
  while (text.size() % 64 != 56) text.push_back(0);
  for (int shift = 56; shift >= 0; shift -= 8) {
    text.push_back(static_cast<std::uint8_t>(std::uint64_t{bytes.size()} * 8 >> shift));
  }
  std::array<std::uint32_t, 8> state{};
  const auto primes = first_primes(8);
  for (int i = 0; i < 8; ++i) state[i] = root_bits(primes[i], 2);
  for (std::size_t i = 0; i < text.size(); i += 64) sha256_block(&text[i], state);
  std::string digits;
  for (const std::uint32_t word : state) digits += fmt::format("{:08x}", word);
  return digits;
}

}  // namespace qlora::kernels::test
