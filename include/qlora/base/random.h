#pragma once
// Named random streams on the host: a seed and a purpose name a stream, an index names a draw.

#include "qlora/base/philox.h"

#include <cstdint>
#include <string_view>
#include <vector>

namespace qlora {

// FNV-1a, 64 bit: a stable name -> number map (module paths, purposes).
std::uint64_t stable_hash(std::string_view text);

// Draws of one named stream. Draw i is a pure function of (seed, purpose, i).
class RandomStream {
 public:
  RandomStream(std::uint64_t seed, std::string_view purpose);

  // Uniform in [0, 1) with 24 bits.
  float uniform(std::uint64_t index) const;
  // Uniform 64-bit word.
  std::uint64_t bits(std::uint64_t index) const;
  // Standard normal (Box-Muller in double, rounded once).
  float normal(std::uint64_t index) const;

 private:
  PhiloxKey key_;
};

// A uniformly random order of 0 .. n-1 (Fisher-Yates), a pure function of the stream.
std::vector<std::int64_t> permutation(std::int64_t n, const RandomStream& stream);

}  // namespace qlora
