// Products through cuBLASLt: those of a decoder layer's groups of linear layers with their adapters
// (shapes and strides as in fused/group_product), and the loss from hidden states.

#include "kernel_case.h"
#include "projection_groups.h"
#include "qlora/kernels/cross_entropy.h"
#include "qlora/tensor/bridge.h"

#include <ATen/ops/full.h>
#include <ATen/ops/randint.h>

namespace qlora::train {
namespace {

using kernels::AugmentedGroup;
using kernels::cuda::MatmulOperands;
using kernels::cuda::MatmulShape;

// Both factors are read, the result is written, and read before where it accumulates.
double product_bytes(const MatmulShape& s, bool accumulates) {
  const double results = static_cast<double>(s.m * s.n) * (accumulates ? 2 : 1);
  return 2.0 * static_cast<double>(s.k * (s.m + s.n)) +
         results * static_cast<double>(size_of(s.out));
}

double product_flops(const MatmulShape& s) { return 2.0 * static_cast<double>(s.m * s.n * s.k); }

// One product on memory of its own.
std::function<void()> random_product(const std::shared_ptr<Products>& products,
                                     const MatmulShape& s, bool accumulates) {
  const at::Tensor a = gpu_random({s.transpose_a ? s.k : s.m, s.a_stride});
  const at::Tensor b = gpu_random({s.transpose_b ? s.n : s.k, s.b_stride}, 0.02);
  const at::Tensor d = gpu_empty({s.m, s.d_stride}, tensor::scalar_type(s.out)).zero_();
  return [=] {
    products->matmul.run(s,
                         {.a = a.const_data_ptr(),
                          .b = b.const_data_ptr(),
                          .d = d.mutable_data_ptr(),
                          .c = accumulates ? d.const_data_ptr() : nullptr},
                         tensor::current_stream(d));
  };
}

// `shapes`: products that follow each other. They accumulate where the result is float32, as the
// gradients of adapters do.
KernelCase products_case(std::string kernel, std::string where, std::vector<MatmulShape> shapes) {
  KernelCase result{.kernel = std::move(kernel), .shape = std::move(where)};
  const auto accumulates = [](const MatmulShape& s) { return s.out == DType::Float32; };
  for (const MatmulShape& s : shapes) {
    result.bytes += product_bytes(s, accumulates(s));
    result.flops += product_flops(s);
  }
  result.prepare = [=] {
    const auto products = std::make_shared<Products>();
    std::vector<std::function<void()>> runs;
    for (const MatmulShape& s : shapes) {
      runs.push_back(random_product(products, s, accumulates(s)));
    }
    return KernelWork{[=] {
      for (const auto& run : runs) run();
    }};
  };
  return result;
}

// Distances of rows: of a group's input and of its output's gradient, with the extra columns.
std::int64_t input_row(const AugmentedGroup& g) { return g.padded_in() + g.extra(); }
std::int64_t output_row(const AugmentedGroup& g) { return g.padded_out() + g.extra(); }

// [x | x·Aᵀ] · [W | s·B]ᵀ
MatmulShape forward_shape(const AugmentedGroup& g, std::int64_t tokens) {
  return {.m = tokens,
          .n = g.padded_out(),
          .k = g.stride(),
          .transpose_b = true,
          .a_stride = input_row(g),
          .b_stride = g.stride(),
          .d_stride = output_row(g)};
}

// [dy | dy·s·B] · [W ; A]
MatmulShape input_gradient_shape(const AugmentedGroup& g, std::int64_t tokens) {
  return {.m = tokens,
          .n = g.padded_in(),
          .k = output_row(g),
          .a_stride = output_row(g),
          .b_stride = g.stride(),
          .d_stride = input_row(g)};
}

// x·Aᵀ
MatmulShape reduce_shape(const AugmentedGroup& g, std::int64_t tokens) {
  return {.m = tokens,
          .n = g.extra(),
          .k = g.padded_in(),
          .transpose_b = true,
          .a_stride = input_row(g),
          .b_stride = g.stride(),
          .d_stride = input_row(g)};
}

// dy·s·B
MatmulShape extend_shape(const AugmentedGroup& g, std::int64_t tokens) {
  return {.m = tokens,
          .n = g.extra(),
          .k = g.padded_out(),
          .a_stride = output_row(g),
          .b_stride = g.stride(),
          .d_stride = output_row(g)};
}

// dyᵀ · (x·Aᵀ) of each linear layer
std::vector<MatmulShape> b_gradient_shapes(const AugmentedGroup& g, std::int64_t tokens) {
  std::vector<MatmulShape> shapes;
  for (std::size_t i = 0; i < g.count; ++i) {
    const kernels::AugmentedPart& part = g.parts[i];
    shapes.push_back({.m = part.out,
                      .n = part.rank,
                      .k = tokens,
                      .transpose_a = true,
                      .a_stride = output_row(g),
                      .b_stride = g.extra(),
                      .c_stride = part.rank,
                      .d_stride = part.rank,
                      .out = DType::Float32});
  }
  return shapes;
}

// (dy·s·B)ᵀ · x
MatmulShape a_gradient_shape(const AugmentedGroup& g, std::int64_t tokens) {
  return {.m = g.rank_sum(),
          .n = g.in,
          .k = tokens,
          .transpose_a = true,
          .a_stride = output_row(g),
          .b_stride = input_row(g),
          .c_stride = g.in,
          .d_stride = g.in,
          .out = DType::Float32};
}

void add_group_cases(const ProjectionGroup& projections, std::int64_t tokens,
                     std::vector<KernelCase>& cases) {
  const AugmentedGroup& g = projections.group;
  const std::string where = fmt::format("{}, {} tokens", projections.name, tokens);
  cases.push_back(products_case("linear forward", where, {forward_shape(g, tokens)}));
  cases.push_back(products_case("linear input gradient", where, {input_gradient_shape(g, tokens)}));
  cases.push_back(products_case("lora xA", where, {reduce_shape(g, tokens)}));
  cases.push_back(products_case("lora dyB", where, {extend_shape(g, tokens)}));
  cases.push_back(products_case("lora dB", where, b_gradient_shapes(g, tokens)));
  cases.push_back(products_case("lora dA", where, {a_gradient_shape(g, tokens)}));
}

// Hidden states, the output projection's weight, and what fused/decoder does with them chunk by
// chunk between the final norm and its gradient.
struct LossInputs {
  std::int64_t chunk, hidden, vocabulary;
  at::Tensor states, weight, gradient, logits, labels, scale, losses;
  std::shared_ptr<Products> products;

  void run_chunk(std::int64_t first) const {
    const kernels::Stream stream = tensor::current_stream(states);
    const auto part = [&](const at::Tensor& of) { return of.narrow(0, first, chunk); };
    products->matmul.run({.m = chunk,
                          .n = vocabulary,
                          .k = hidden,
                          .transpose_b = true,
                          .a_stride = hidden,
                          .b_stride = hidden,
                          .d_stride = vocabulary},
                         {.a = part(states).const_data_ptr(),
                          .b = weight.const_data_ptr(),
                          .d = logits.mutable_data_ptr()},
                         stream);
    kernels::cuda::cross_entropy(rows_of(logits), DType::BFloat16, chunk, vocabulary,
                                 part(labels).const_data_ptr<std::int32_t>(),
                                 scale.const_data_ptr<float>(), losses.mutable_data_ptr<float>(),
                                 stream);
    products->matmul.run({.m = chunk,
                          .n = hidden,
                          .k = vocabulary,
                          .a_stride = vocabulary,
                          .b_stride = hidden,
                          .d_stride = hidden},
                         {.a = logits.const_data_ptr(),
                          .b = weight.const_data_ptr(),
                          .d = part(gradient).mutable_data_ptr()},
                         stream);
  }
};

LossInputs make_loss_inputs(std::int64_t rows, std::int64_t chunk, std::int64_t hidden,
                            std::int64_t vocabulary) {
  const auto gpu = at::TensorOptions(at::kCUDA);
  return {.chunk = chunk,
          .hidden = hidden,
          .vocabulary = vocabulary,
          .states = gpu_random({rows, hidden}),
          .weight = gpu_random({vocabulary, hidden}, 0.02),
          .gradient = gpu_empty({rows, hidden}),
          .logits = gpu_empty({chunk, vocabulary}),
          .labels = at::randint(vocabulary, {rows}, gpu.dtype(at::kInt)),
          .scale = at::full({1}, 1.0 / static_cast<double>(rows), gpu.dtype(at::kFloat)),
          .losses = gpu_empty({chunk}, at::kFloat),
          .products = std::make_shared<Products>()};
}

// Both products alone count: a loss that costs nothing beside them stands at their roof. Scratch is
// a chunk's logits and losses.
KernelCase loss_case(const ModelShape& model) {
  constexpr std::int64_t kRows = 4096, kChunk = 512;
  const std::int64_t hidden = model.hidden, vocabulary = model.vocabulary;
  return {.kernel = "linear_cross_entropy",
          .shape = fmt::format("{} x {} x {}, {} at a time", kRows, hidden, vocabulary, kChunk),
          .flops = 2 * 2.0 * static_cast<double>(kRows * hidden * vocabulary),
          .prepare = [=] {
            const LossInputs inputs = make_loss_inputs(kRows, kChunk, hidden, vocabulary);
            const std::size_t scratch = inputs.logits.nbytes() + inputs.losses.nbytes();
            const auto run = [=] {
              for (std::int64_t i = 0; i < kRows; i += kChunk) inputs.run_chunk(i);
            };
            return KernelWork{.run = run, .scratch_bytes = static_cast<std::int64_t>(scratch)};
          }};
}

}  // namespace

KernelCase large_product_case() {
  constexpr std::int64_t n = 8192;
  return products_case(
      "product", fmt::format("{0} x {0} x {0}", n),
      {{.m = n, .n = n, .k = n, .transpose_b = true, .a_stride = n, .b_stride = n, .d_stride = n}});
}

std::vector<KernelCase> product_cases() {
  std::vector<KernelCase> cases;
  for (const std::string_view model : kMeasuredModels) {
    for (const std::int64_t tokens : kTokenCounts) {
      for (const ProjectionGroup& group : projection_groups(model_shape(model), kLoraRank)) {
        add_group_cases(group, tokens, cases);
      }
    }
  }
  cases.push_back(loss_case(model_shape("exaone-3.5-2.4b")));
  return cases;
}

}  // namespace qlora::train
