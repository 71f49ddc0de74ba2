#include "qlora/kernels/adamw_table.h"

#include "element.h"
#include "qlora/base/error.h"
#include "qlora/base/narrow.h"

namespace qlora::kernels {
namespace {

void check_tensor(const AdamWTensor& tensor) {
  with_param_and_grad(tensor.param_dtype, tensor.grad_dtype, "adamw", [](auto, auto) {});
  QLORA_ASSERT(tensor.n >= 1);
  QLORA_ASSERT((tensor.m_absmax == nullptr) == (tensor.v_absmax == nullptr));
  const ComputeCopy& copy = tensor.copy;
  if (copy.data == nullptr) return;
  with_element(copy.dtype, "adamw", [](auto) {});
  QLORA_ASSERT(copy.columns >= 1 && copy.pitch >= copy.columns && copy.first >= 0);
  // The row of an element is found in 32 bits.
  QLORA_ASSERT(std::in_range<std::uint32_t>(copy.first + tensor.n));
}

bool all_aligned(const AdamWTensor& t) {
  std::uintptr_t addresses = 0;
  for (const void* pointer : {t.param, t.grad, t.m, t.v}) {
    addresses |= reinterpret_cast<std::uintptr_t>(pointer);
  }
  return addresses % 16 == 0;
}

}  // namespace

std::vector<std::int32_t> number_chunks(std::span<AdamWTensor> tensors) {
  std::vector<std::int32_t> owners;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    AdamWTensor& tensor = tensors[i];
    check_tensor(tensor);
    tensor.aligned = all_aligned(tensor);
    tensor.first_chunk = narrow<std::int64_t>(owners.size());
    owners.insert(owners.end(), static_cast<std::size_t>(div_up(tensor.n, kAdamWChunk)),
                  narrow<std::int32_t>(i));
  }
  return owners;
}

}  // namespace qlora::kernels
