#pragma once
// AdamW with 8-bit blockwise state (bitsandbytes' kOptimizerStatic8bit2StateBlockwise) and with
// float32 state (torch.optim.AdamW). Tensor arithmetic is float32, every operation rounded.
//
// 8 bit, per element, with g = grad * factor:
//   m = beta1*m + (1-beta1)*g;  v = beta2*v + (1-beta2)*g*g
//   p = T(p - lr*c2/c1 * m / (sqrt(v) + c2*eps)), c1 = 1 - beta1^t, c2 = sqrt(1 - beta2^t)
//   p = T(p * (1 - lr*weight_decay)): the decay comes after the step, as in the CUDA kernel
// then each block of 256 stores the nearest codes of m / max|m| (kSignedMap; moved one code where
// its sign would differ from m's) and of v / max v (kUnsignedMap).
// Where g*g is not finite (NaN, Inf, overflow) the element's moments become 0 and p stays.
// Differences from bitsandbytes: codes are the nearest ones (its CPU path looks them up on a grid
// of 65,536 steps and cannot store 0; its CPU path also decays first); IEEE division and root
// where its CUDA build approximates; max|m| of a short last block covers its own elements only;
// a block whose moments are all 0 stores the codes of 0.
//
// 32 bit: p = p * (1 - lr*weight_decay) first, m += (1-beta1)*(g - m), v as above,
//   p = T(p - lr/c1 * m / (sqrt(v)/c2 + eps)), one rounding to T. NaN and Inf propagate, as in
// torch. The scalars are formed in double, as torch's are.

#include "qlora/kernels/gradient_norm.h"

namespace qlora::kernels {

struct AdamWStep {
  double lr = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0;
  std::int64_t step = 1;        // t, counted from 1
  bool zero_gradients = false;  // leaves zeros where the gradients were, also of a skipped update
};

// One update of every tensor of the table, with g = grad * norm->factor; where norm->finite is
// false parameters, state and copies stay as they are. State is all zero before the first step.
namespace cpu {

void adamw(const AdamWTable& table, const AdamWStep& step, const GradientNorm* norm, Stream stream);

}  // namespace cpu

namespace cuda {

void adamw(const AdamWTable& table, const AdamWStep& step, const GradientNorm* norm, Stream stream);

}  // namespace cuda
}  // namespace qlora::kernels
