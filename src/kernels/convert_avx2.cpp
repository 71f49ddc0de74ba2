#include "convert.h"
#include "vector_avx2.h"

namespace qlora::kernels::avx2 {

#if defined(__x86_64__)

QLORA_AVX2 std::int64_t load(const Float16* x, std::int64_t n, float* out) {
  std::int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(x + i));
    _mm256_storeu_ps(out + i, _mm256_cvtph_ps(bits));
  }
  return i;
}

QLORA_AVX2 std::int64_t load(const BFloat16* x, std::int64_t n, float* out) {
  std::int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(x + i));
    const __m256i words = _mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16);
    _mm256_storeu_ps(out + i, _mm256_castsi256_ps(words));
  }
  return i;
}

QLORA_AVX2 std::int64_t store(const float* values, std::int64_t n, Float16* x) {
  std::int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(x + i), to_fp16(_mm256_loadu_ps(values + i)));
  }
  return i;
}

QLORA_AVX2 std::int64_t store(const float* values, std::int64_t n, BFloat16* x) {
  std::int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(x + i), to_bf16(_mm256_loadu_ps(values + i)));
  }
  return i;
}

#else  // use_avx2() is false there: the portable loops convert everything

std::int64_t load(const Float16*, std::int64_t, float*) { return 0; }
std::int64_t load(const BFloat16*, std::int64_t, float*) { return 0; }
std::int64_t store(const float*, std::int64_t, Float16*) { return 0; }
std::int64_t store(const float*, std::int64_t, BFloat16*) { return 0; }

#endif

}  // namespace qlora::kernels::avx2
