#include "qlora/tensor/quantized_weight.h"

#include "qlora/base/narrow.h"
#include "qlora/kernels/dequantize_4bit.h"
#include "qlora/kernels/dynamic_maps.h"
#include "qlora/kernels/quantize_4bit.h"
#include "qlora/tensor/bridge.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>

namespace qlora::tensor {
namespace {

at::Tensor dynamic_map_on(c10::Device device) {
  const at::ArrayRef<float> map(kernels::kSignedMap.values, kernels::kSignedMap.size());
  return at::tensor(map, at::TensorOptions(at::kFloat)).to(device);
}

void quantize_nested(QuantizedWeight& w, const at::Tensor& absmax) {
  const std::int64_t blocks = absmax.numel();
  const auto options = absmax.options();
  w.absmax_codes = at::empty({blocks}, options.dtype(at::kByte));
  w.nested_absmax = at::empty({div_up(blocks, kernels::kNestedBlock)}, options);
  w.nested_map = dynamic_map_on(absmax.device());
  at::Tensor offset = at::empty({1}, options);
  const auto run =
      absmax.is_cuda() ? kernels::cuda::quantize_absmax : kernels::cpu::quantize_absmax;
  run(absmax.const_data_ptr<float>(), blocks, w.absmax_codes.mutable_data_ptr<std::uint8_t>(),
      w.nested_absmax.mutable_data_ptr<float>(), offset.mutable_data_ptr<float>(),
      current_stream(absmax));
  w.offset = offset.item<float>();
}

}  // namespace

kernels::Absmax QuantizedWeight::scales() const {
  if (!nested()) return {.values = absmax.const_data_ptr<float>()};
  return {.values = nullptr,
          .codes = absmax_codes.const_data_ptr<std::uint8_t>(),
          .nested_values = nested_absmax.const_data_ptr<float>(),
          .nested_map = nested_map.const_data_ptr<float>(),
          .offset = offset};
}

std::int64_t QuantizedWeight::element_count() const {
  std::int64_t count = 1;
  for (const std::int64_t extent : shape) count *= extent;
  return count;
}

std::int64_t QuantizedWeight::byte_count() const {
  std::size_t bytes = 0;
  for (const at::Tensor& part : {packed, absmax, absmax_codes, nested_absmax, nested_map}) {
    if (part.defined()) bytes += part.nbytes();
  }
  return static_cast<std::int64_t>(bytes);
}

at::Tensor QuantizedWeight::dequantize(at::ScalarType dtype) const {
  // float64 serves as reference arithmetic: the stored values are exact in float32.
  if (dtype == at::kDouble) return dequantize(at::kFloat).to(at::kDouble);
  at::Tensor dense = at::empty(shape, packed.options().dtype(dtype));
  const auto run =
      packed.is_cuda() ? kernels::cuda::dequantize_4bit : kernels::cpu::dequantize_4bit;
  run(type, packed.const_data_ptr<std::uint8_t>(), scales(), 0, element_count(), block,
      dense.mutable_data_ptr(), dtype_of(dense), current_stream(packed));
  return dense;
}

QuantizedWeightPtr QuantizedWeight::to(c10::Device device) const {
  auto copy = c10::make_intrusive<QuantizedWeight>();
  copy->type = type;
  copy->block = block;
  copy->shape = shape;
  copy->original_dtype = original_dtype;
  copy->offset = offset;
  const auto move = [&](const at::Tensor& part) { return part.defined() ? part.to(device) : part; };
  copy->packed = move(packed);
  copy->absmax = move(absmax);
  copy->absmax_codes = move(absmax_codes);
  copy->nested_absmax = move(nested_absmax);
  copy->nested_map = move(nested_map);
  return copy;
}

QuantizedWeightPtr quantize(const at::Tensor& weight, kernels::QuantType type, std::int64_t block,
                            bool double_quantize) {
  QLORA_ASSERT(weight.is_contiguous());
  const std::int64_t n = weight.numel();
  auto result = c10::make_intrusive<QuantizedWeight>();
  result->type = type;
  result->block = block;
  result->shape = weight.sizes().vec();
  result->original_dtype = weight.scalar_type();
  result->packed = at::empty({(n + 1) / 2}, weight.options().dtype(at::kByte));
  at::Tensor absmax = at::empty({div_up(n, block)}, weight.options().dtype(at::kFloat));
  const auto run = weight.is_cuda() ? kernels::cuda::quantize_4bit : kernels::cpu::quantize_4bit;
  run(type, weight.const_data_ptr(), dtype_of(weight), n, block,
      result->packed.mutable_data_ptr<std::uint8_t>(), absmax.mutable_data_ptr<float>(),
      current_stream(weight));
  if (double_quantize) {
    quantize_nested(*result, absmax);
  } else {
    result->absmax = absmax;
  }
  return result;
}

}  // namespace qlora::tensor
