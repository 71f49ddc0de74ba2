#include "group_product.h"

#include "qlora/kernels/cuda_check.h"

#include <cuda_runtime_api.h>

namespace qlora::fused {

using kernels::ConstRows;
using kernels::Rows;

namespace {

std::int64_t element_size(DType dtype) { return static_cast<std::int64_t>(size_of(dtype)); }

void copy_columns(ConstRows from, Rows to, std::int64_t rows, std::int64_t columns, DType dtype,
                  kernels::Stream stream) {
  const auto bytes = [&](std::int64_t elements) {
    return static_cast<std::size_t>(elements * element_size(dtype));
  };
  QLORA_CUDA(cudaMemcpy2DAsync(to.data, bytes(to.stride), from.data, bytes(from.stride),
                               bytes(columns), static_cast<std::size_t>(rows),
                               cudaMemcpyDeviceToDevice, static_cast<cudaStream_t>(stream)));
}

}  // namespace

const void* GroupProduct::column(const void* data, std::int64_t index) const {
  return static_cast<const std::byte*>(data) + index * element_size(place_.dtype);
}

const void* GroupProduct::weight_at(std::int64_t row, std::int64_t col) const {
  return column(weight_, row * group_.stride() + col);
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
  void* extra = const_cast<void*>(column(in.data, group_.padded_in()));
  if (drops()) {
    return kernels::cuda::lora_reduce(lora(), in, place_.dtype, place_.tokens, {extra, in.stride},
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
                    {.a = in.data, .b = weight_at(group_.padded_out(), 0), .d = extra},
                    place_.stream);
}

void GroupProduct::keep(Rows in, void* kept) const {
  if (!adapted()) return;
  copy_columns({column(in.data, group_.padded_in()), in.stride}, {kept, group_.extra()},
               place_.tokens, group_.extra(), place_.dtype, place_.stream);
}

void GroupProduct::restore(const void* kept, Rows in) const {
  if (!adapted()) return;
  void* extra = const_cast<void*>(column(in.data, group_.padded_in()));
  copy_columns({kept, group_.extra()}, {extra, in.stride}, place_.tokens, group_.extra(),
               place_.dtype, place_.stream);
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
  void* extra = const_cast<void*>(column(dy.data, group_.padded_out()));
  place_.matmul.run({.m = place_.tokens,
                     .n = group_.extra(),
                     .k = group_.padded_out(),
                     .a_stride = dy.stride,
                     .b_stride = group_.stride(),
                     .d_stride = dy.stride,
                     .in = place_.dtype,
                     .out = place_.dtype},
                    {.a = dy.data, .b = weight_at(0, group_.padded_in()), .d = extra},
                    place_.stream);
}

void GroupProduct::input_gradient(ConstRows dy, Rows dx) const {
  // The adapters' part either rides in the product as more of its inner dimension, or is there
  // before it.
  const std::int64_t inner = group_.padded_out() + (drops() ? 0 : group_.extra());
  if (drops()) {
    const ConstRows reduced{column(dy.data, group_.padded_out()), dy.stride};
    kernels::cuda::lora_expand(lora(), reduced, place_.dtype, place_.tokens, dx, place_.stream);
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
                      {.a = column(dy.data, group_.row_of(i)),
                       .b = column(reduced.data, group_.rank_before(i)),
                       .d = out.b[i],
                       .c = out.b[i],
                       .alpha = out.scaling[i]},
                      place_.stream);
  }
}

void GroupProduct::add_a_gradient(ConstRows dy, ConstRows in, const GroupGradients& out) const {
  if (!adapted()) return;
  const ConstRows reduced{column(dy.data, group_.padded_out()), dy.stride};
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
