// The kernels that pass over activations, laid out in memory as in the fused path: rows leave room
// for a group's extra columns behind their features, and gradients are made in place.

#include "kernel_case.h"
#include "model_shapes.h"
#include "qlora/kernels/augmented_weight.h"
#include "qlora/kernels/cross_entropy.h"
#include "qlora/kernels/dropout.h"
#include "qlora/kernels/gather_rows.h"
#include "qlora/kernels/rms_norm.h"
#include "qlora/kernels/rope.h"
#include "qlora/kernels/swiglu.h"
#include "qlora/tensor/bridge.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randperm.h>

namespace qlora::train {
namespace {

namespace cuda = kernels::cuda;
using kernels::RopeDirection;

constexpr DType kType = DType::BFloat16;
constexpr float kEps = 1e-5f;
constexpr std::int64_t kExtra = kernels::kAdapterUnit;
// Tokens of a document.
constexpr std::int64_t kDocument = 1024;
constexpr std::int64_t kLossRows = 4096;

at::TensorOptions gpu(at::ScalarType type) { return at::TensorOptions(at::kCUDA).dtype(type); }

// Of bfloat16 matrices of this size.
double matrix_bytes(double count, std::int64_t rows, std::int64_t columns) {
  return count * 2 * static_cast<double>(rows * columns);
}

std::string sizes(std::int64_t rows, std::int64_t columns) {
  return fmt::format("{} x {}", rows, columns);
}

// x is read, y and a float32 of each row are written, the weight is read.
KernelCase rms_norm_case(const ModelShape& model, std::int64_t tokens) {
  const std::int64_t hidden = model.hidden;
  return {.kernel = "rms_norm",
          .shape = sizes(tokens, hidden),
          .bytes = matrix_bytes(2, tokens, hidden) + matrix_bytes(1, 1, hidden) +
                   4.0 * static_cast<double>(tokens),
          .prepare = [=] {
            const at::Tensor x = gpu_random({tokens, hidden}), weight = gpu_random({hidden});
            const at::Tensor y = gpu_empty({tokens, hidden + kExtra});
            const at::Tensor rstd = gpu_empty({tokens}, at::kFloat);
            return KernelWork{[=] {
              cuda::rms_norm(rows_of(x), weight.const_data_ptr(), kType, tokens, hidden, kEps,
                             rows_of(y), rstd.mutable_data_ptr<float>(), tensor::current_stream(x));
            }};
          }};
}

// x, dy and the residual's gradient are read; dx and y, again, are written.
KernelCase rms_norm_backward_case(const ModelShape& model, std::int64_t tokens) {
  const std::int64_t hidden = model.hidden;
  return {.kernel = "rms_norm_backward",
          .shape = sizes(tokens, hidden),
          .bytes = matrix_bytes(5, tokens, hidden) + matrix_bytes(1, 1, hidden) +
                   4.0 * static_cast<double>(tokens),
          .prepare = [=] {
            const at::Tensor x = gpu_random({tokens, hidden}), weight = gpu_random({hidden});
            const at::Tensor rstd = at::full({tokens}, 1, gpu(at::kFloat));
            const at::Tensor source = gpu_random({tokens, hidden + kExtra});
            const at::Tensor dy = gpu_empty(source.sizes()), dx = gpu_empty(source.sizes());
            const auto run = [=] {
              cuda::rms_norm_backward({.dy = rows_of(dy),
                                       .x = rows_of(x),
                                       .weight = weight.const_data_ptr(),
                                       .rstd = rstd.const_data_ptr<float>(),
                                       .dx_add = rows_of(dx),
                                       .dx = rows_of(dx),
                                       .y = rows_of(dy)},
                                      kType, tokens, hidden, tensor::current_stream(x));
            };
            const auto reset = [=] {
              dy.copy_(source);
              dx.copy_(source);
            };
            return KernelWork{.run = run, .reset = reset};
          }};
}

// Queries and keys of documents of kDocument tokens, and what turns them.
struct Heads {
  kernels::HeadShape shape;
  std::int64_t width, row;  // columns of queries and keys; of queries, keys, values and extra ones
  at::Tensor positions, cos, sin;
  kernels::RopeAngles angles() const {
    return {positions.const_data_ptr<std::int32_t>(), cos.const_data_ptr<float>(),
            sin.const_data_ptr<float>()};
  }
};

Heads make_heads(const ModelShape& model, std::int64_t tokens) {
  const at::Tensor angles = gpu_random({kDocument, model.head_dim / 2}, 1, at::kFloat);
  return {.shape = {tokens, model.heads + model.key_heads, model.head_dim},
          .width = model.query_size() + model.key_size(),
          .row = model.query_size() + 2 * model.key_size() + kExtra,
          .positions = at::arange(tokens, gpu(at::kInt)).remainder_(kDocument),
          .cos = angles.cos(),
          .sin = angles.sin()};
}

// `matrices` of queries and keys, the tokens' positions, and the table of angles.
double turning_bytes(double matrices, const ModelShape& model, std::int64_t tokens) {
  return matrix_bytes(matrices, tokens, model.query_size() + model.key_size()) +
         4.0 * static_cast<double>(tokens + kDocument * model.head_dim);
}

std::string head_sizes(const ModelShape& model, std::int64_t tokens) {
  return fmt::format("{} x {} heads of {}", tokens, model.heads + model.key_heads, model.head_dim);
}

// Read and written in place, which keeps the values' size.
KernelCase rope_case(const ModelShape& model, std::int64_t tokens, RopeDirection direction) {
  return {.kernel = direction == RopeDirection::Forward ? "rope" : "rope backward",
          .shape = head_sizes(model, tokens),
          .bytes = turning_bytes(2, model, tokens),
          .prepare = [=] {
            const Heads heads = make_heads(model, tokens);
            const at::Tensor qkv = gpu_random({tokens, heads.row});
            return KernelWork{[=] {
              cuda::rope(rows_of(qkv), kType, heads.shape, heads.angles(), direction, rows_of(qkv),
                         tensor::current_stream(qkv));
            }};
          }};
}

struct HeadWeights {
  at::Tensor query, key;
  std::int64_t query_heads;
  kernels::HeadNorm view() const {
    return {query.const_data_ptr(), key.const_data_ptr(), query_heads, kEps};
  }
};

HeadWeights make_head_weights(const ModelShape& model) {
  return {gpu_random({model.head_dim}), gpu_random({model.head_dim}), model.heads};
}

KernelCase head_norm_rope_case(const ModelShape& model, std::int64_t tokens) {
  return {.kernel = "head_norm_rope",
          .shape = head_sizes(model, tokens),
          .bytes = turning_bytes(2, model, tokens),
          .prepare = [=] {
            const Heads heads = make_heads(model, tokens);
            const HeadWeights weights = make_head_weights(model);
            const at::Tensor qkv = gpu_random({tokens, heads.row});
            const at::Tensor turned = gpu_empty({tokens, heads.width});
            return KernelWork{[=] {
              cuda::head_norm_rope(rows_of(qkv), kType, heads.shape, weights.view(), heads.angles(),
                                   rows_of(turned), tensor::current_stream(qkv));
            }};
          }};
}

// x and dy are read, dx is written.
KernelCase head_norm_rope_backward_case(const ModelShape& model, std::int64_t tokens) {
  return {.kernel = "head_norm_rope_backward",
          .shape = head_sizes(model, tokens),
          .bytes = turning_bytes(3, model, tokens),
          .prepare = [=] {
            const Heads heads = make_heads(model, tokens);
            const HeadWeights weights = make_head_weights(model);
            const at::Tensor qkv = gpu_random({tokens, heads.row});
            const at::Tensor gradient = gpu_empty(qkv.sizes());
            const auto run = [=] {
              cuda::head_norm_rope_backward(rows_of(gradient), rows_of(qkv), kType, heads.shape,
                                            weights.view(), heads.angles(), rows_of(gradient),
                                            tensor::current_stream(qkv));
            };
            const auto reset = [=] { gradient.copy_(qkv); };
            return KernelWork{.run = run, .reset = reset};
          }};
}

// gate and up are read, h is written.
KernelCase swiglu_case(const ModelShape& model, std::int64_t tokens) {
  const std::int64_t width = model.intermediate;
  return {.kernel = "swiglu",
          .shape = sizes(tokens, width),
          .bytes = matrix_bytes(3, tokens, width),
          .prepare = [=] {
            const at::Tensor gate_up = gpu_random({tokens, 2 * width + kExtra});
            const at::Tensor h = gpu_empty({tokens, width + kExtra});
            return KernelWork{[=] {
              cuda::swiglu(rows_of(gate_up), width, kType, tokens, width, rows_of(h),
                           tensor::current_stream(h));
            }};
          }};
}

// gate, up and dh are read; their gradients and h, again, are written.
KernelCase swiglu_backward_case(const ModelShape& model, std::int64_t tokens) {
  const std::int64_t width = model.intermediate;
  return {.kernel = "swiglu_backward",
          .shape = sizes(tokens, width),
          .bytes = matrix_bytes(6, tokens, width),
          .prepare = [=] {
            const at::Tensor source = gpu_random({tokens, 2 * width + kExtra});
            const at::Tensor gate_up = gpu_empty(source.sizes());
            const at::Tensor dh = gpu_empty({tokens, width + kExtra});
            const auto run = [=] {
              cuda::swiglu_backward({.gate_up = rows_of(gate_up),
                                     .dh = rows_of(dh),
                                     .d_gate_up = rows_of(gate_up),
                                     .h = rows_of(dh),
                                     .up_offset = width},
                                    kType, tokens, width, tensor::current_stream(dh));
            };
            const auto reset = [=] {
              gate_up.copy_(source);
              dh.copy_(source.slice(1, 0, dh.size(1)));
            };
            return KernelWork{.run = run, .reset = reset};
          }};
}

// x and two 64-bit names of each row are read, the output is written.
KernelCase dropout_case(const ModelShape& model, std::int64_t tokens) {
  const std::int64_t hidden = model.hidden;
  return {.kernel = "dropout",
          .shape = sizes(tokens, hidden),
          .bytes = matrix_bytes(2, tokens, hidden) + 16.0 * static_cast<double>(tokens),
          .prepare = [=] {
            const at::Tensor x = gpu_random({tokens, hidden}), out = gpu_empty({tokens, hidden});
            const at::Tensor names = at::arange(tokens, gpu(at::kLong));
            return KernelWork{[=] {
              const auto* name = names.const_data_ptr<std::int64_t>();
              cuda::dropout(x.const_data_ptr(), kType, tokens, hidden, name, name, {.seed = 1},
                            0.05f, out.mutable_data_ptr(), tensor::current_stream(x));
            }};
          }};
}

// Logits are read and their gradient is written; of a row also its label and its loss.
KernelCase cross_entropy_case(std::int64_t vocabulary) {
  return {.kernel = "cross_entropy",
          .shape = sizes(kLossRows, vocabulary),
          .bytes = matrix_bytes(2, kLossRows, vocabulary) + 8.0 * kLossRows,
          .prepare = [=] {
            const at::Tensor source = gpu_random({kLossRows, vocabulary}, 2);
            const at::Tensor logits = gpu_empty(source.sizes());
            const at::Tensor labels = at::randint(vocabulary, {kLossRows}, gpu(at::kInt));
            const at::Tensor scale = at::full({1}, 1.0 / kLossRows, gpu(at::kFloat));
            const at::Tensor losses = gpu_empty({kLossRows}, at::kFloat);
            const auto run = [=] {
              cuda::cross_entropy(rows_of(logits), kType, kLossRows, vocabulary,
                                  labels.const_data_ptr<std::int32_t>(),
                                  scale.const_data_ptr<float>(), losses.mutable_data_ptr<float>(),
                                  tensor::current_stream(logits));
            };
            const auto reset = [=] { logits.copy_(source); };
            return KernelWork{.run = run, .reset = reset};
          }};
}

// Rows and indices are read, rows are written. The index names the row on the side of all rows:
// token embeddings where they are gathered, hidden states where they are scattered.
KernelCase copied_rows_case(const ModelShape& model, std::int64_t tokens, bool gather) {
  const std::int64_t hidden = model.hidden;
  const std::int64_t all = gather ? model.vocabulary : tokens;
  return {
      .kernel = gather ? "gather_rows" : "scatter_rows",
      .shape = fmt::format("{} of {} x {}", tokens, all, hidden),
      .bytes = matrix_bytes(2, tokens, hidden) + 4.0 * static_cast<double>(tokens),
      .prepare = [=] {
        const at::Tensor many = gpu_random({all, hidden}), picked = gpu_random({tokens, hidden});
        const at::Tensor order =
            gather ? at::randint(all, {tokens}, gpu(at::kInt)) : at::randperm(all, gpu(at::kInt));
        return KernelWork{[=] {
          const auto copy = gather ? cuda::gather_rows : cuda::scatter_rows;
          copy(rows_of(gather ? many : picked), order.const_data_ptr<std::int32_t>(), kType, tokens,
               hidden, rows_of(gather ? picked : many), tensor::current_stream(many));
        }};
      }};
}

}  // namespace

std::vector<KernelCase> activation_cases() {
  std::vector<KernelCase> cases;
  for (const std::string_view name : kMeasuredModels) {
    const ModelShape& model = model_shape(name);
    for (const std::int64_t tokens : kTokenCounts) {
      cases.push_back(rms_norm_case(model, tokens));
      cases.push_back(rms_norm_backward_case(model, tokens));
      cases.push_back(rope_case(model, tokens, RopeDirection::Forward));
      cases.push_back(rope_case(model, tokens, RopeDirection::Backward));
      cases.push_back(head_norm_rope_case(model, tokens));
      cases.push_back(head_norm_rope_backward_case(model, tokens));
      cases.push_back(swiglu_case(model, tokens));
      cases.push_back(swiglu_backward_case(model, tokens));
      cases.push_back(dropout_case(model, tokens));
      cases.push_back(copied_rows_case(model, tokens, /*gather=*/true));
      cases.push_back(copied_rows_case(model, tokens, /*gather=*/false));
    }
  }
  cases.push_back(cross_entropy_case(model_shape("exaone-3.5-2.4b").vocabulary));
  return cases;
}

}  // namespace qlora::train
