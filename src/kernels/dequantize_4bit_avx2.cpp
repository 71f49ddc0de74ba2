#include "decode_4bit.h"
#include "vector_avx2.h"

namespace qlora::kernels::avx2 {

#if defined(__x86_64__)
namespace {

// The block's 16 possible results, rounded once, as a table of low and one of high bytes.
struct ByteTables {
  __m128i low;
  __m128i high;
};

QLORA_AVX2 inline ByteTables split(__m128i first, __m128i second) {
  const __m128i low = _mm_set1_epi16(0xff);
  return {_mm_packus_epi16(_mm_and_si128(first, low), _mm_and_si128(second, low)),
          _mm_packus_epi16(_mm_srli_epi16(first, 8), _mm_srli_epi16(second, 8))};
}

// Looks up 16-bit results, 32 at a time.
QLORA_AVX2 inline std::int64_t decode_halves(const ByteTables& table, const BlockToDecode& block,
                                             void* out) {
  const __m128i nibble = _mm_set1_epi8(15);
  std::int64_t i = 0;
  for (; i + 32 <= block.n; i += 32) {
    const auto bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(block.packed + i / 2));
    const __m128i even = _mm_and_si128(_mm_srli_epi16(bytes, 4), nibble);
    const __m128i odd = _mm_and_si128(bytes, nibble);
    const __m128i even_low = _mm_shuffle_epi8(table.low, even);
    const __m128i even_high = _mm_shuffle_epi8(table.high, even);
    const __m128i odd_low = _mm_shuffle_epi8(table.low, odd);
    const __m128i odd_high = _mm_shuffle_epi8(table.high, odd);
    const __m128i even_a = _mm_unpacklo_epi8(even_low, even_high);
    const __m128i even_b = _mm_unpackhi_epi8(even_low, even_high);
    const __m128i odd_a = _mm_unpacklo_epi8(odd_low, odd_high);
    const __m128i odd_b = _mm_unpackhi_epi8(odd_low, odd_high);
    auto* target = reinterpret_cast<__m128i*>(static_cast<std::uint16_t*>(out) + i);
    _mm_storeu_si128(target, _mm_unpacklo_epi16(even_a, odd_a));
    _mm_storeu_si128(target + 1, _mm_unpackhi_epi16(even_a, odd_a));
    _mm_storeu_si128(target + 2, _mm_unpacklo_epi16(even_b, odd_b));
    _mm_storeu_si128(target + 3, _mm_unpackhi_epi16(even_b, odd_b));
  }
  return i;
}

struct Results {
  __m256 low;   // of codes 0..7
  __m256 high;  // of codes 8..15
};

QLORA_AVX2 inline Results results(const BlockToDecode& block) {
  const __m256 scale = _mm256_set1_ps(block.scale);
  return {_mm256_mul_ps(_mm256_loadu_ps(block.codes.values), scale),
          _mm256_mul_ps(_mm256_loadu_ps(block.codes.values + 8), scale)};
}

}  // namespace

QLORA_AVX2 std::int64_t decode(const BlockToDecode& block, float* out) {
  const Results table = results(block);
  // Element e of 8 is the nibble of a little-endian word that starts at this bit.
  const __m256i first_bit = _mm256_setr_epi32(4, 0, 12, 8, 20, 16, 28, 24);
  std::int64_t i = 0;
  for (; i + 8 <= block.n; i += 8) {
    int word;
    __builtin_memcpy(&word, block.packed + i / 2, sizeof word);
    const __m256i code = _mm256_srlv_epi32(_mm256_set1_epi32(word), first_bit);
    const __m256 low = _mm256_permutevar8x32_ps(table.low, code);
    const __m256 high = _mm256_permutevar8x32_ps(table.high, code);
    const __m256 bit3 = _mm256_castsi256_ps(_mm256_slli_epi32(code, 28));
    _mm256_storeu_ps(out + i, _mm256_blendv_ps(low, high, bit3));
  }
  return i;
}

QLORA_AVX2 std::int64_t decode(const BlockToDecode& block, Float16* out) {
  const Results table = results(block);
  return decode_halves(split(to_fp16(table.low), to_fp16(table.high)), block, out);
}

QLORA_AVX2 std::int64_t decode(const BlockToDecode& block, BFloat16* out) {
  const Results table = results(block);
  return decode_halves(split(to_bf16(table.low), to_bf16(table.high)), block, out);
}

#else  // use_avx2() is false there

std::int64_t decode(const BlockToDecode&, float*) { return 0; }
std::int64_t decode(const BlockToDecode&, Float16*) { return 0; }
std::int64_t decode(const BlockToDecode&, BFloat16*) { return 0; }

#endif

}  // namespace qlora::kernels::avx2
