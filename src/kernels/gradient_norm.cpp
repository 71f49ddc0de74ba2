#include "qlora/kernels/gradient_norm.h"

#include "clip.h"
#include "convert.h"
#include "lane_sum.h"
#include "norm_workspace.h"
#include "qlora/base/error.h"
#include "qlora/base/narrow.h"
#include "qlora/base/parallel.h"

#include <algorithm>

namespace qlora::kernels {

std::int64_t gradient_norm_workspace(const AdamWTable& table) {
  return static_cast<std::int64_t>(sizeof(double)) * (table.chunk_count + table.tensor_count) +
         static_cast<std::int64_t>(sizeof(std::uint32_t)) * (table.tensor_count + 1);
}

namespace cpu {
namespace {

double chunk_sum(const AdamWTensor& tensor, std::int64_t chunk, std::vector<float>& values) {
  const std::int64_t start = (chunk - tensor.first_chunk) * kAdamWChunk;
  const std::int64_t count = std::min(kAdamWChunk, tensor.n - start);
  load_floats(tensor.grad_dtype, tensor.grad, start, count, values.data());
  return lane_sum(count, [&](std::int64_t i) { return double{values[i]} * values[i]; });
}

}  // namespace

void gradient_norm(const AdamWTable& table, const ClipOptions& options, void* workspace,
                   GradientNorm* result, Stream) {
  QLORA_ASSERT(table.tensor_count >= 1);
  const NormWorkspace sums(table, workspace);
  parallel_for(table.chunk_count, 4, [&](std::int64_t first, std::int64_t last) {
    std::vector<float> values(kAdamWChunk);
    for (std::int64_t c = first; c < last; ++c) {
      sums.chunks[c] = chunk_sum(table.tensors[table.owners[c]], c, values);
    }
  });
  double sum = 0;
  for (std::int64_t t = 0; t < table.tensor_count; ++t) {
    const AdamWTensor& tensor = table.tensors[t];
    const double* chunks = sums.chunks + tensor.first_chunk;
    sum += lane_sum(div_up(tensor.n, kAdamWChunk), [&](std::int64_t i) { return chunks[i]; });
  }
  *result = clipped(sum, options);
}

}  // namespace cpu
}  // namespace qlora::kernels
