#include "qlora/kernels/copy_rows.h"

#include "launch.cuh"

namespace qlora::kernels::cuda {
namespace {

constexpr int kThreads = 128;
constexpr std::int64_t kAccess = sizeof(uint4);

// A row of blocks per row, a thread per 16 bytes.
__global__ void copy_kernel(RowCopy copy, const std::int32_t* rows) {
  const std::int64_t row = blockIdx.x;
  const std::int64_t place = (std::int64_t{blockIdx.y} * kThreads + threadIdx.x) * kAccess;
  if (row >= *rows || place >= copy.bytes) return;
  const char* from = static_cast<const char*>(copy.from) + row * copy.from_stride + place;
  char* to = static_cast<char*>(copy.to) + row * copy.to_stride + place;
  *reinterpret_cast<uint4*>(to) = *reinterpret_cast<const uint4*>(from);
}

}  // namespace

void copy_rows(const RowCopy& copy, const std::int32_t* rows, std::int64_t most_rows,
               Stream stream) {
  check_alignment(copy.from, kAccess);
  check_alignment(copy.to, kAccess);
  if (most_rows == 0 || copy.bytes == 0) return;
  const dim3 grid(static_cast<unsigned>(most_rows), grid_for(copy.bytes, kThreads * kAccess));
  copy_kernel<<<grid, kThreads, 0, as_cuda(stream)>>>(copy, rows);
  check_launch("copy_rows");
}

}  // namespace qlora::kernels::cuda
