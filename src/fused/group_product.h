#pragma once
// The products of one group of linear layers with its augmented weight (augmented_weight.h).

#include "qlora/fused/layer.h"
#include "qlora/kernels/lora_dropout.h"
#include "qlora/kernels/matmul.h"

namespace qlora::fused {

// Inputs and output gradients of the group lie in rows that have room for the extra columns behind
// their features: in, dy: [tokens, features | extra].
class GroupProduct {
 public:
  struct Place {
    kernels::cuda::Matmul& matmul;
    DType dtype;
    std::int64_t tokens;
    kernels::Stream stream;
  };

  // How the adapters' inputs are dropped: with a rate above 0 their products take a way of their
  // own, since each layer of the group has another mask.
  struct Dropout {
    float rate;
    const std::array<PhiloxKey, kernels::kMaxParts>& keys;
    const std::int64_t* samples;    // [tokens]
    const std::int32_t* positions;  // [tokens]
  };

  // weight: memory for the augmented weight.
  GroupProduct(const Place& place, const kernels::AugmentedGroup& group, void* weight,
               const Dropout& dropout)
      : place_(place), group_(group), weight_(weight), dropout_(dropout) {}

  // Dequantizes the weights and lays the adapters beside them.
  void assemble() const;

  // in's extra columns = dropped(in) · Aᵀ.
  void reduce(kernels::Rows in) const;
  // The ranks' columns of `in` to `kept` [tokens, rank_sum], or back with zeros behind them.
  void keep(kernels::ConstRows in, kernels::Rows kept) const;
  void restore(kernels::ConstRows kept, kernels::Rows in) const;
  // out = in · Wᵀ + adapter (+ residual) (+ bias on every row); reads in's extra columns.
  void apply(kernels::ConstRows in, kernels::ConstRows residual, const void* bias,
             kernels::Rows out) const;

  // dy's extra columns = dy · s·B.
  void extend(kernels::Rows dy) const;
  // dx = dy · W + adapter; reads dy's extra columns.
  void input_gradient(kernels::ConstRows dy, kernels::Rows dx) const;
  // Adds sᵢ · dyᵀ · reduced to the gradients of B.
  void add_b_gradient(kernels::ConstRows dy, kernels::ConstRows reduced,
                      const GroupGradients& out) const;
  // Adds (dy · s·B)ᵀ · dropped(in) to the gradient of A; reads dy's extra columns.
  void add_a_gradient(kernels::ConstRows dy, kernels::ConstRows in,
                      const GroupGradients& out) const;

 private:
  bool adapted() const { return group_.extra() > 0; }
  bool drops() const { return adapted() && dropout_.rate > 0; }
  kernels::LoraDropout lora() const;
  std::size_t bytes(std::int64_t elements) const;
  void copy_ranks(kernels::ConstRows from, kernels::Rows to) const;
  template <class R>
  R extra_of_input(R in) const;
  template <class R>
  R extra_of_output(R dy) const;
  const void* weight_at(std::int64_t row, std::int64_t column) const;

  Place place_;
  const kernels::AugmentedGroup& group_;
  void* weight_;
  Dropout dropout_;
};

}  // namespace qlora::fused
