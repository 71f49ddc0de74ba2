#include "qlora/kernels/keyed_noise.h"

#include "convert.h"
#include "keyed_noise_math.h"
#include "qlora/base/parallel.h"
#include "rows.h"

#include <algorithm>
#include <vector>

namespace qlora::kernels::cpu {

void keyed_noise(DType dtype, std::int64_t rows, std::int64_t cols, const std::int64_t* samples,
                 const std::int64_t* positions, const float* scales, const DropoutKey& key,
                 void* out, Stream) {
  const PhiloxKey row_key = philox_key(key);
  parallel_for(rows, row_grain(cols), [&](std::int64_t first, std::int64_t last) {
    std::vector<float> values(static_cast<std::size_t>(cols));
    for (std::int64_t row = first; row < last; ++row) {
      for (std::int64_t f = 0; f < cols; f += 4) {
        const Philox4 random = row_words(f / 4, samples[row], positions[row], row_key);
        for (std::int64_t j = 0; j < std::min<std::int64_t>(4, cols - f); ++j) {
          values[static_cast<std::size_t>(f + j)] = noise(random.words[j], scales[row]);
        }
      }
      store_floats(dtype, values.data(), cols, out, row * cols);
    }
  });
}

}  // namespace qlora::kernels::cpu
