#include "attention_layout.h"
#include "launch.cuh"

namespace qlora::kernels::cuda {
namespace {

constexpr int kThreads = 128;

__global__ void index_kernel(OffsetStrides strides, std::int64_t slots, Documents documents) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i <= slots) index_document(strides, slots, i, documents);
}

}  // namespace

void index_documents(const AttentionShape& shape, const Documents& documents, Stream stream) {
  index_kernel<<<grid_for(shape.slots + 1, kThreads), kThreads, 0, as_cuda(stream)>>>(
      offset_strides(shape), shape.slots, documents);
  check_launch("index_documents");
}

}  // namespace qlora::kernels::cuda
