#include "encode_4bit.h"
#include "vector_avx2.h"

namespace qlora::kernels::avx2 {

#if defined(__x86_64__)
namespace {

template <int N>
QLORA_AVX2 inline __m256i ranks(__m256 x, const Table<N>& thresholds) {
  __m256i rank = _mm256_setzero_si256();
  for (int i = 0; i < N; ++i) {
    const __m256 above = _mm256_cmp_ps(x, _mm256_set1_ps(thresholds[i]), _CMP_GT_OQ);
    rank = _mm256_sub_epi32(rank, _mm256_castps_si256(above));
  }
  return rank;
}

struct Nf4 {
  QLORA_AVX2 static __m256i codes(__m256 x) { return ranks(x, kNf4Thresholds); }
};

struct Fp4 {
  QLORA_AVX2 static __m256i codes(__m256 x) {
    const __m256 magnitude = _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x);
    const __m256i shift = _mm256_slli_epi32(ranks(magnitude, kFp4Thresholds), 2);
    const __m256i order = _mm256_set1_epi32(static_cast<int>(kFp4CodeOfRank));
    const __m256i code = _mm256_and_si256(_mm256_srlv_epi32(order, shift), _mm256_set1_epi32(7));
    const __m256 negative = _mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_LT_OQ);
    const __m256i sign = _mm256_and_si256(_mm256_castps_si256(negative), _mm256_set1_epi32(8));
    return _mm256_or_si256(code, sign);
  }
};

template <class Code>
QLORA_AVX2 std::int64_t encode(const float* values, std::int64_t n, float scale,
                               std::uint8_t* packed) {
  const __m256 factor = _mm256_set1_ps(scale);
  // The two pack instructions work within halves: groups of four codes come out as 0 2 4 6 1 3 5 7.
  const __m256i in_order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  const __m256i join = _mm256_set1_epi16(0x0110);  // 16 * even code + odd code
  std::int64_t i = 0;
  for (; i + 32 <= n; i += 32) {
    __m256i codes[4];
    for (int j = 0; j < 4; ++j) {
      codes[j] = Code::codes(_mm256_mul_ps(_mm256_loadu_ps(values + i + 8 * j), factor));
    }
    const __m256i bytes = _mm256_packus_epi16(_mm256_packus_epi32(codes[0], codes[1]),
                                              _mm256_packus_epi32(codes[2], codes[3]));
    const __m256i ordered = _mm256_permutevar8x32_epi32(bytes, in_order);
    const __m256i pairs = _mm256_maddubs_epi16(ordered, join);
    const __m128i joined =
        _mm_packus_epi16(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(packed + i / 2), joined);
  }
  return i;
}

}  // namespace

QLORA_AVX2 std::int64_t encode_run(QuantType type, const float* values, std::int64_t n, float scale,
                                   std::uint8_t* packed) {
  return type == QuantType::NF4 ? encode<Nf4>(values, n, scale, packed)
                                : encode<Fp4>(values, n, scale, packed);
}

#else  // use_avx2() is false there

std::int64_t encode_run(QuantType, const float*, std::int64_t, float, std::uint8_t*) { return 0; }

#endif

}  // namespace qlora::kernels::avx2
