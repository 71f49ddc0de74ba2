#include "dropout_math.h"
#include "vector_avx2.h"

namespace qlora::kernels::avx2 {

#if defined(__x86_64__)
namespace {

struct Product {
  __m256i high;
  __m256i low;
};

// 32 x 32 -> 64 bit products of eight lanes.
QLORA_AVX2 inline Product multiply(__m256i a, __m256i b) {
  const __m256i even = _mm256_mul_epu32(a, b);
  const __m256i odd = _mm256_mul_epu32(_mm256_srli_epi64(a, 32), b);
  return {_mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa),
          _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xaa)};
}

struct Words {
  __m256i w[4];
};

// philox() on eight counters at once.
QLORA_AVX2 inline Words philox8(Words counter, PhiloxKey key) {
  const __m256i factor0 = _mm256_set1_epi32(static_cast<int>(0xD2511F53u));
  const __m256i factor2 = _mm256_set1_epi32(static_cast<int>(0xCD9E8D57u));
  for (int round = 0; round < 10; ++round) {
    const Product p0 = multiply(counter.w[0], factor0);
    const Product p2 = multiply(counter.w[2], factor2);
    const __m256i low = _mm256_set1_epi32(static_cast<int>(key.low));
    const __m256i high = _mm256_set1_epi32(static_cast<int>(key.high));
    counter = {{_mm256_xor_si256(_mm256_xor_si256(p2.high, counter.w[1]), low), p2.low,
                _mm256_xor_si256(_mm256_xor_si256(p0.high, counter.w[3]), high), p0.low}};
    key.low += 0x9E3779B9u;
    key.high += 0xBB67AE85u;
  }
  return counter;
}

QLORA_AVX2 inline __m256i all_lanes(std::int64_t value) {
  return _mm256_set1_epi32(static_cast<int>(value));
}

// bits: one half of a word for each of the eight values.
QLORA_AVX2 inline void drop8(float* values, __m128i bits, const DropoutRule& rule) {
  const __m256i kept =
      _mm256_cmpgt_epi32(_mm256_cvtepu16_epi32(bits), all_lanes(std::int64_t{rule.threshold} - 1));
  const __m256 scaled = _mm256_mul_ps(_mm256_loadu_ps(values), _mm256_set1_ps(rule.scale));
  _mm256_storeu_ps(values, _mm256_and_ps(_mm256_castsi256_ps(kept), scaled));
}

QLORA_AVX2 inline void drop16(float* values, __m256i words, const DropoutRule& rule) {
  drop8(values, _mm256_castsi256_si128(words), rule);
  drop8(values + 8, _mm256_extracti128_si256(words, 1), rule);
}

}  // namespace

QLORA_AVX2 std::int64_t drop_run(float* values, std::int64_t n, std::int64_t first_feature,
                                 std::int64_t sample, std::int64_t position,
                                 const DropoutRule& rule) {
  // Octets of the lanes, so that the transposition below leaves the features in order.
  const __m256i octets = _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7);
  std::int64_t i = 0;
  for (; i + 64 <= n; i += 64) {
    const __m256i first = all_lanes((first_feature + i) / kOctet);
    const Words random = philox8({{_mm256_add_epi32(octets, first), all_lanes(position),
                                   all_lanes(sample), all_lanes(sample >> 32)}},
                                 rule.key);
    const __m256i a = _mm256_unpacklo_epi32(random.w[0], random.w[1]);
    const __m256i b = _mm256_unpacklo_epi32(random.w[2], random.w[3]);
    const __m256i c = _mm256_unpackhi_epi32(random.w[0], random.w[1]);
    const __m256i d = _mm256_unpackhi_epi32(random.w[2], random.w[3]);
    drop16(values + i, _mm256_unpacklo_epi64(a, b), rule);
    drop16(values + i + 16, _mm256_unpackhi_epi64(a, b), rule);
    drop16(values + i + 32, _mm256_unpacklo_epi64(c, d), rule);
    drop16(values + i + 48, _mm256_unpackhi_epi64(c, d), rule);
  }
  return i;
}

#else  // use_avx2() is false there

std::int64_t drop_run(float*, std::int64_t, std::int64_t, std::int64_t, std::int64_t,
                      const DropoutRule&) {
  return 0;
}

#endif

}  // namespace qlora::kernels::avx2
