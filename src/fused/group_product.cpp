#include "group_product.h"

#include "part_of.h"
#include "qlora/kernels/cuda_check.h"

#include <cuda_runtime_api.h>

namespace qlora::fused {

using kernels::ConstRows;
using kernels::Rows;

std::size_t GroupProduct::bytes(std::int64_t elements) const {
  return static_cast<std::size_t>(elements) * size_of(place_.dtype);
}

// The columns behind the features.
template <class R>
R GroupProduct::extra_of_input(R in) const {
  return part_of(in, 0, group_.padded_in(), place_.dtype);
}

template <class R>
R GroupProduct::extra_of_output(R dy) const {
  return part_of(dy, 0, group_.padded_out(), place_.dtype);
}

const void* GroupProduct::weight_at(std::int64_t row, std::int64_t column) const {
  return part_of(ConstRows{weight_, group_.stride()}, row, column, place_.dtype).data;
}

void GroupProduct::assemble() const {
  kernels::cuda::augment_weight(group_, weight_, place_.dtype, place_.stream);
}

kernels::LoraDropout GroupProduct::lora() const {
  kernels::LoraDropout lora{.features = group_.in,
                            .in = group_.padded_in(),
                            .extra = group_.extra(),
                            .count = group_.count,
                            .parts = {},
                            .p = dropout_.rate,
                            .a = {weight_at(group_.padded_out(), 0), group_.stride()},
                            .samples = dropout_.samples,
                            .positions = dropout_.positions};
  for (std::size_t i = 0; i < group_.count; ++i) {
    lora.parts[i] = {group_.rank_before(i), group_.parts[i].rank, dropout_.keys[i]};
  }
  return lora;
}

void GroupProduct::reduce(Rows in) const {
  if (!adapted()) return;
  const Rows extra = extra_of_input(in);
  if (drops()) {
    return kernels::cuda::lora_reduce(lora(), in, place_.dtype, place_.tokens, extra,
                                      place_.stream);
  }
  place_.matmul.run({.m = place_.tokens,
                     .n = group_.extra(),
                     .k = group_.padded_in(),
                     .transpose_b = true,
                     .a_stride = in.stride,
                     .b_stride = group_.stride(),
                     .d_stride = in.stride,
                     .in = place_.dtype,
                     .out = place_.dtype},
                    {.a = in.data, .b = weight_at(group_.padded_out(), 0), .d = extra.data},
                    place_.stream);
}

void GroupProduct::copy_ranks(ConstRows from, Rows to) const {
  QLORA_CUDA(cudaMemcpy2DAsync(to.data, bytes(to.stride), from.data, bytes(from.stride),
                               bytes(group_.rank_sum()), static_cast<std::size_t>(place_.tokens),
                               cudaMemcpyDeviceToDevice, static_cast<cudaStream_t>(place_.stream)));
}

void GroupProduct::keep(ConstRows in, Rows kept) const {
  if (adapted()) copy_ranks(extra_of_input(in), kept);
}

void GroupProduct::restore(ConstRows kept, Rows in) const {
  if (!adapted()) return;
  const Rows extra = extra_of_input(in);
  copy_ranks(kept, extra);
  const std::int64_t padding = group_.extra() - group_.rank_sum();
  if (padding == 0) return;
  const Rows behind = part_of(extra, 0, group_.rank_sum(), place_.dtype);
  QLORA_CUDA(cudaMemset2DAsync(behind.data, bytes(behind.stride), 0, bytes(padding),
                               static_cast<std::size_t>(place_.tokens),
                               static_cast<cudaStream_t>(place_.stream)));
}

void GroupProduct::apply(ConstRows in, ConstRows residual, const void* bias, Rows out) const {
  place_.matmul.run({.m = place_.tokens,
                     .n = group_.padded_out(),
                     .k = group_.stride(),
                     .transpose_b = true,
                     .a_stride = in.stride,
                     .b_stride = group_.stride(),
                     .c_stride = residual.stride,
                     .d_stride = out.stride,
                     .in = place_.dtype,
                     .out = place_.dtype},
                    {.a = in.data, .b = weight_, .d = out.data, .c = residual.data, .bias = bias},
                    place_.stream);
}

void GroupProduct::extend(Rows dy) const {
  if (!adapted()) return;
  place_.matmul.run(
      {.m = place_.tokens,
       .n = group_.extra(),
       .k = group_.padded_out(),
       .a_stride = dy.stride,
       .b_stride = group_.stride(),
       .d_stride = dy.stride,
       .in = place_.dtype,
       .out = place_.dtype},
      {.a = dy.data, .b = weight_at(0, group_.padded_in()), .d = extra_of_output(dy).data},
      place_.stream);
}

void GroupProduct::input_gradient(ConstRows dy, Rows dx) const {
  // The adapters' part either rides in the product as more of its inner dimension, or is there
  // before it.
  const std::int64_t inner = group_.padded_out() + (drops() ? 0 : group_.extra());
  if (drops()) {
    kernels::cuda::lora_expand(lora(), extra_of_output(dy), place_.dtype, place_.tokens, dx,
                               place_.stream);
  }
  place_.matmul.run({.m = place_.tokens,
                     .n = group_.padded_in(),
                     .k = inner,
                     .a_stride = dy.stride,
                     .b_stride = group_.stride(),
                     .c_stride = dx.stride,
                     .d_stride = dx.stride,
                     .in = place_.dtype,
                     .out = place_.dtype},
                    {.a = dy.data, .b = weight_, .d = dx.data, .c = drops() ? dx.data : nullptr},
                    place_.stream);
}

void GroupProduct::add_b_gradient(ConstRows dy, ConstRows reduced,
                                  const GroupGradients& out) const {
  for (std::size_t i = 0; i < group_.count; ++i) {
    const kernels::AugmentedPart& part = group_.parts[i];
    if (part.rank == 0) continue;
    place_.matmul.run({.m = part.out,
                       .n = part.rank,
                       .k = place_.tokens,
                       .transpose_a = true,
                       .a_stride = dy.stride,
                       .b_stride = reduced.stride,
                       .c_stride = part.rank,
                       .d_stride = part.rank,
                       .in = place_.dtype,
                       .out = DType::Float32},
                      {.a = part_of(dy, 0, group_.row_of(i), place_.dtype).data,
                       .b = part_of(reduced, 0, group_.rank_before(i), place_.dtype).data,
                       .d = out.b[i],
                       .c = out.b[i],
                       .alpha = out.scaling[i]},
                      place_.stream);
  }
}

void GroupProduct::add_a_gradient(ConstRows dy, ConstRows in, const GroupGradients& out) const {
  if (!adapted()) return;
  const ConstRows reduced = extra_of_output(dy);
  if (drops()) {
    return kernels::cuda::lora_accumulate_a(lora(), reduced, in, place_.dtype, place_.tokens, out.a,
                                            place_.stream);
  }
  place_.matmul.run({.m = group_.rank_sum(),
                     .n = group_.in,
                     .k = place_.tokens,
                     .transpose_a = true,
                     .a_stride = dy.stride,
                     .b_stride = in.stride,
                     .c_stride = group_.in,
                     .d_stride = group_.in,
                     .in = place_.dtype,
                     .out = DType::Float32},
                    {.a = reduced.data, .b = in.data, .d = out.a, .c = out.a}, place_.stream);
}

}  // namespace qlora::fused
