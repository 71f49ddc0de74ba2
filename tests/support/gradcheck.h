#pragma once
// Numeric gradients: central differences in float64 against what autograd says.

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <functional>
#include <vector>

namespace qlora::test {

// `function` maps the inputs (float64 leaves) to one tensor. Checks d(sum of output · weights)/dx
// for every element of every input that requires a gradient, with fixed random weights.
inline void expect_gradients(
    const std::function<at::Tensor(const std::vector<at::Tensor>&)>& function,
    const std::vector<at::Tensor>& inputs) {
  // Central differences with step h err by O(h²) plus rounding eps / h: about 1e-9 of the values.
  constexpr double kStep = 1e-5;
  constexpr double kTolerance = 1e-7;
  at::manual_seed(7);
  const at::Tensor output = function(inputs);
  const at::Tensor weights = at::randn_like(output);
  const auto objective = [&] {
    const at::NoGradGuard no_grad;
    return (function(inputs) * weights).sum().item<double>();
  };
  torch::autograd::backward({(output * weights).sum()});
  for (std::size_t k = 0; k < inputs.size(); ++k) {
    const at::Tensor& input = inputs[k];
    if (!input.requires_grad()) continue;
    ASSERT_TRUE(input.grad().defined()) << "input " << k << " got no gradient";
    const at::Tensor gradient = input.grad().contiguous();
    double* value = input.data_ptr<double>();
    for (std::int64_t i = 0; i < input.numel(); ++i) {
      const double kept = value[i];
      value[i] = kept + kStep;
      const double above = objective();
      value[i] = kept - kStep;
      const double below = objective();
      value[i] = kept;
      const double numeric = (above - below) / (2 * kStep);
      ASSERT_NEAR(gradient.data_ptr<double>()[i], numeric, kTolerance * (1 + std::abs(numeric)))
          << "input " << k << ", element " << i;
    }
  }
}

// A float64 leaf of standard normal values.
inline at::Tensor random_leaf(at::IntArrayRef shape, std::uint64_t seed,
                              bool requires_grad = true) {
  at::manual_seed(seed);
  return at::randn(shape, at::kDouble).requires_grad_(requires_grad);
}

}  // namespace qlora::test
