#include "qlora/base/random.h"

#include <cmath>
#include <numbers>
#include <numeric>
#include <utility>

namespace qlora {
namespace {

Philox4 draw(std::uint64_t index, PhiloxKey key) {
  return philox(
      {{static_cast<std::uint32_t>(index), static_cast<std::uint32_t>(index >> 32), 0, 0}}, key);
}

}  // namespace

std::uint64_t stable_hash(std::string_view text) {
  std::uint64_t hash = 0xcbf29ce484222325ull;
  for (const char c : text) {
    hash ^= static_cast<unsigned char>(c);
    hash *= 0x100000001b3ull;
  }
  return hash;
}

RandomStream::RandomStream(std::uint64_t seed, std::string_view purpose) {
  const std::uint64_t mixed = stable_hash(purpose) ^ (seed * 0x9E3779B97F4A7C15ull);
  key_ = {static_cast<std::uint32_t>(mixed), static_cast<std::uint32_t>(mixed >> 32)};
}

float RandomStream::uniform(std::uint64_t index) const {
  return to_unit_float(draw(index, key_).words[0]);
}

std::uint64_t RandomStream::bits(std::uint64_t index) const {
  const Philox4 block = draw(index, key_);
  return (static_cast<std::uint64_t>(block.words[1]) << 32) | block.words[0];
}

float RandomStream::normal(std::uint64_t index) const {
  const Philox4 block = draw(index, key_);
  // (word + 0.5) / 2^32 is never 0, so the logarithm is finite.
  const double u1 = (block.words[0] + 0.5) * 0x1p-32;
  const double u2 = (block.words[1] + 0.5) * 0x1p-32;
  return static_cast<float>(std::sqrt(-2.0 * std::log(u1)) * std::cos(2.0 * std::numbers::pi * u2));
}

std::vector<std::int64_t> permutation(std::int64_t n, const RandomStream& stream) {
  std::vector<std::int64_t> order(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), std::int64_t{0});
  for (std::int64_t i = n - 1; i > 0; --i) {
    const auto bound = static_cast<std::uint64_t>(i) + 1;
    // The high word of a 64 x 64 product is uniform enough: the bias is below bound / 2^64.
    const auto wide =
        static_cast<unsigned __int128>(stream.bits(static_cast<std::uint64_t>(i))) * bound;
    std::swap(order[static_cast<std::size_t>(i)], order[static_cast<std::size_t>(wide >> 64)]);
  }
  return order;
}

}  // namespace qlora
