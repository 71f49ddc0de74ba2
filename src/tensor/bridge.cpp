#include "qlora/tensor/bridge.h"

#include "qlora/base/error.h"
#include "qlora/base/parallel.h"

#include <ATen/Parallel.h>
#include <c10/cuda/CUDAStream.h>

#include <cstring>

namespace qlora::tensor {
namespace {

struct Pair {
  DType dtype;
  at::ScalarType scalar;
};

constexpr Pair kPairs[] = {
    {DType::Float64, at::kDouble},    {DType::Float32, at::kFloat}, {DType::Float16, at::kHalf},
    {DType::BFloat16, at::kBFloat16}, {DType::Int64, at::kLong},    {DType::Int32, at::kInt},
    {DType::Int16, at::kShort},       {DType::Int8, at::kChar},     {DType::UInt8, at::kByte},
    {DType::Bool, at::kBool},
};

void run_on_torch_threads(std::int64_t n, std::int64_t grain, const RangeFunction& body) {
  at::parallel_for(0, n, grain, body);
}

}  // namespace

at::ScalarType scalar_type(DType dtype) {
  for (const Pair& pair : kPairs) {
    if (pair.dtype == dtype) return pair.scalar;
  }
  fail("element type {} has no LibTorch counterpart", name_of(dtype));
}

DType dtype_of(at::ScalarType dtype) {
  for (const Pair& pair : kPairs) {
    if (pair.scalar == dtype) return pair.dtype;
  }
  fail("LibTorch element type {} has no stored counterpart", c10::toString(dtype));
}

DType dtype_of(const at::Tensor& tensor) { return dtype_of(tensor.scalar_type()); }

kernels::Stream current_stream(const at::Tensor& tensor) {
  if (!tensor.is_cuda()) return nullptr;
  return c10::cuda::getCurrentCUDAStream(tensor.get_device()).stream();
}

at::Tensor to_tensor(const io::TensorView& view) {
  at::Tensor tensor = at::empty(view.shape, scalar_type(view.dtype));
  QLORA_ASSERT(tensor.nbytes() == view.bytes.size());
  if (!view.bytes.empty()) std::memcpy(tensor.data_ptr(), view.bytes.data(), view.bytes.size());
  return tensor;
}

std::span<const std::byte> bytes_of(const at::Tensor& tensor) {
  QLORA_ASSERT(tensor.is_contiguous() && tensor.is_cpu());
  return {static_cast<const std::byte*>(tensor.const_data_ptr()), tensor.nbytes()};
}

void share_torch_threads() { set_parallel_backend(&run_on_torch_threads); }

}  // namespace qlora::tensor
