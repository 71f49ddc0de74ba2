// Dequantization of frozen weights, alone and with adapters laid beside them.

#include "kernel_case.h"
#include "model_shapes.h"
#include "projection_groups.h"
#include "qlora/kernels/dequantize_4bit.h"
#include "qlora/tensor/bridge.h"
#include "qlora/tensor/quantized_weight.h"

namespace qlora::train {
namespace {

// Spread of a trained model's weights.
constexpr double kWeightSpread = 0.02;

// Codes, an 8-bit scale for each 64 of them, and a float32 scale for each 256 of those.
double nf4_bytes(double elements) { return elements * (0.5 + 1.0 / 64 + 4.0 / (64 * 256)); }

tensor::QuantizedWeightPtr random_nf4(std::int64_t out, std::int64_t in) {
  return tensor::quantize(gpu_random({out, in}, kWeightSpread), kernels::QuantType::NF4,
                          kernels::kDefaultBlock, /*double_quantize=*/true);
}

// The 4-bit weight is read, the bfloat16 one written.
KernelCase dequantize_case(std::int64_t out, std::int64_t in) {
  const std::int64_t n = out * in;
  return {.kernel = "dequantize_4bit nf4",
          .shape = fmt::format("{} x {}", out, in),
          .bytes = nf4_bytes(static_cast<double>(n)) + 2.0 * static_cast<double>(n),
          .prepare = [=] {
            const auto weight = random_nf4(out, in);
            const at::Tensor dense = gpu_empty({out, in});
            return KernelWork{[=] {
              kernels::cuda::dequantize_4bit(
                  weight->type, weight->packed.const_data_ptr<std::uint8_t>(), weight->scales(), 0,
                  n, weight->block, dense.mutable_data_ptr(), DType::BFloat16,
                  tensor::current_stream(dense));
            }};
          }};
}

// A group with its data; the tensors own what `view` points to.
struct GroupWeights {
  kernels::AugmentedGroup view;
  std::vector<tensor::QuantizedWeightPtr> frozen;
  std::vector<at::Tensor> adapters;
};

GroupWeights random_weights(kernels::AugmentedGroup group) {
  GroupWeights weights;
  for (std::size_t i = 0; i < group.count; ++i) {
    kernels::AugmentedPart& part = group.parts[i];
    const auto frozen = weights.frozen.emplace_back(random_nf4(part.out, group.in));
    part.packed = frozen->packed.const_data_ptr<std::uint8_t>();
    part.absmax = frozen->scales();
    const auto adapter = [&](std::int64_t rows, std::int64_t columns) {
      return weights.adapters.emplace_back(gpu_random({rows, columns}, kWeightSpread))
          .const_data_ptr();
    };
    part.a = adapter(part.rank, group.in);
    part.scaled_b = adapter(part.out, part.rank);
  }
  weights.view = group;
  return weights;
}

// Frozen weights and adapters are read; all is written but the corner of extra rows and columns.
double augment_bytes(const kernels::AugmentedGroup& group) {
  double bytes = 2.0 * static_cast<double>(group.element_count() - group.extra() * group.extra());
  for (std::size_t i = 0; i < group.count; ++i) {
    const kernels::AugmentedPart& part = group.parts[i];
    bytes += nf4_bytes(static_cast<double>(part.out * group.in));
    bytes += 2.0 * static_cast<double>(part.rank * (group.in + part.out));
  }
  return bytes;
}

KernelCase augment_case(const ProjectionGroup& projections) {
  return {.kernel = "augment_weight",
          .shape = fmt::format("{}, rank {}", projections.name, kLoraRank),
          .bytes = augment_bytes(projections.group),
          .prepare = [group = projections.group] {
            const GroupWeights weights = random_weights(group);
            const at::Tensor out = gpu_empty({group.element_count()});
            return KernelWork{[=] {
              kernels::cuda::augment_weight(weights.view, out.mutable_data_ptr(), DType::BFloat16,
                                            tensor::current_stream(out));
            }};
          }};
}

}  // namespace

std::vector<KernelCase> weight_cases() {
  std::vector<KernelCase> cases = {dequantize_case(7168, 2560), dequantize_case(11008, 4096),
                                   dequantize_case(14336, 4096), dequantize_case(8192, 28672)};
  for (const std::string_view model : kMeasuredModels) {
    for (const ProjectionGroup& group : projection_groups(model_shape(model), kLoraRank)) {
      cases.push_back(augment_case(group));
    }
  }
  return cases;
}

}  // namespace qlora::train
