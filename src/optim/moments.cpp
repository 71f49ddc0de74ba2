#include "moments.h"

#include "qlora/base/error.h"
#include "qlora/base/narrow.h"
#include "qlora/kernels/adamw_table.h"

#include <ATen/ops/zeros.h>

namespace qlora::optim {

using kernels::kAdamWBlock;

Moments Moments::zeros(std::int64_t n, bool eight_bit, const at::TensorOptions& options) {
  const auto dtype = eight_bit ? at::kByte : at::kFloat;
  Moments result{.m = at::zeros({n}, options.dtype(dtype)),
                 .v = at::zeros({n}, options.dtype(dtype)),
                 .m_absmax = {},
                 .v_absmax = {}};
  if (eight_bit) {
    result.m_absmax = at::zeros({div_up(n, kAdamWBlock)}, options.dtype(at::kFloat));
    result.v_absmax = at::zeros({div_up(n, kAdamWBlock)}, options.dtype(at::kFloat));
  }
  return result;
}

std::vector<std::pair<std::string_view, at::Tensor>> Moments::tensors() const {
  std::vector<std::pair<std::string_view, at::Tensor>> result{{"m", m}, {"v", v}};
  if (eight_bit()) {
    result.emplace_back("m_absmax", m_absmax);
    result.emplace_back("v_absmax", v_absmax);
  }
  return result;
}

Moments Moments::slice(std::int64_t begin, std::int64_t end) const {
  QLORA_ASSERT(begin % kAdamWBlock == 0);
  Moments result{
      .m = m.slice(0, begin, end), .v = v.slice(0, begin, end), .m_absmax = {}, .v_absmax = {}};
  if (eight_bit()) {
    result.m_absmax = m_absmax.slice(0, begin / kAdamWBlock, div_up(end, kAdamWBlock));
    result.v_absmax = v_absmax.slice(0, begin / kAdamWBlock, div_up(end, kAdamWBlock));
  }
  return result;
}

void Moments::copy_from(const Moments& source) {
  m.copy_(source.m, /*non_blocking=*/true);
  v.copy_(source.v, /*non_blocking=*/true);
  if (!eight_bit()) return;
  m_absmax.copy_(source.m_absmax, /*non_blocking=*/true);
  v_absmax.copy_(source.v_absmax, /*non_blocking=*/true);
}

}  // namespace qlora::optim
