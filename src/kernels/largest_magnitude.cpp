#include "largest_magnitude.h"

#include "vector_avx2.h"

#include <cmath>

namespace qlora::kernels {
namespace {

#if defined(__x86_64__)
// n is a multiple of 8.
QLORA_AVX2 float largest_of_eights(const float* x, std::int64_t n) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  __m256 largest = _mm256_setzero_ps();
  for (std::int64_t i = 0; i < n; i += 8) {
    // max gives its second operand where one is NaN.
    largest = _mm256_max_ps(_mm256_andnot_ps(sign, _mm256_loadu_ps(x + i)), largest);
  }
  float lanes[8];
  _mm256_storeu_ps(lanes, largest);
  float result = 0;
  for (const float lane : lanes) result = lane > result ? lane : result;
  return result;
}
#else
float largest_of_eights(const float*, std::int64_t) { return 0; }
#endif

}  // namespace

float largest_magnitude(const float* x, std::int64_t n) {
  const std::int64_t eights = use_avx2() ? n / 8 * 8 : 0;
  float largest = eights > 0 ? largest_of_eights(x, eights) : 0;
  for (std::int64_t i = eights; i < n; ++i) {
    const float magnitude = std::fabs(x[i]);
    if (magnitude > largest) largest = magnitude;
  }
  return largest;
}

}  // namespace qlora::kernels
