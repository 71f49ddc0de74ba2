#pragma once
// Gradient checkpointing: trade a second forward pass for the memory of the first one's values.

#include <ATen/core/Tensor.h>

#include <functional>

namespace qlora::nn {

// Runs `body(x)` keeping only x; backward runs it again to get the values it needs. The body must
// be a pure function of x and of parameters (dropout masks are keyed, so they come out the same).
// Gradients of the parameters that it reads accumulate in their grad. Works where x itself needs
// no gradient. result: what body returns, under autograd.
at::Tensor recompute(const std::function<at::Tensor(const at::Tensor&)>& body, const at::Tensor& x);

}  // namespace qlora::nn
