#include "qlora/kernels/squared_norm.h"

#include "convert.h"
#include "lane_sum.h"
#include "qlora/base/narrow.h"
#include "qlora/base/parallel.h"

#include <algorithm>
#include <vector>

namespace qlora::kernels {

std::int64_t squared_norm_workspace(std::int64_t n) { return div_up(n, kNormChunk); }

namespace cpu {

void squared_norm(const void* x, DType dtype, std::int64_t n, double* workspace, double* sum,
                  Stream) {
  const std::int64_t chunks = squared_norm_workspace(n);
  parallel_for(chunks, 4, [&](std::int64_t first, std::int64_t last) {
    std::vector<float> values(kNormChunk);
    for (std::int64_t c = first; c < last; ++c) {
      const std::int64_t count = std::min(kNormChunk, n - c * kNormChunk);
      load_floats(dtype, x, c * kNormChunk, count, values.data());
      workspace[c] = lane_sum(count, [&](std::int64_t i) { return double{values[i]} * values[i]; });
    }
  });
  *sum += lane_sum(chunks, [&](std::int64_t i) { return workspace[i]; });
}

}  // namespace cpu
}  // namespace qlora::kernels
