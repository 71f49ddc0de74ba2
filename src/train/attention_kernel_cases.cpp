// Attention over packed documents, by both engines.

#include "kernel_case.h"
#include "model_shapes.h"
#include "qlora/base/log.h"
#include "qlora/kernels/augmented_weight.h"
#include "qlora/tensor/bridge.h"
#include "qlora/tensor/packed_attention.h"

namespace qlora::train {
namespace {

using kernels::AttentionShape;
using kernels::PackedAttention;

struct Engine {
  std::string_view name;
  std::optional<std::string> (*problem)(const AttentionShape& shape);
  std::unique_ptr<PackedAttention> (*make)(const AttentionShape& shape);
};

constexpr Engine kEngines[] = {
    {"cudnn", kernels::cuda::cudnn_attention_problem, kernels::cuda::make_cudnn_attention},
    {"flash", tensor::flash_attention_problem,
     [](const AttentionShape& shape) {
       return tensor::make_flash_attention(shape, /*deterministic=*/false);
     }},
};

// Documents of one length.
struct Packing {
  std::string_view model;
  std::int64_t documents, length;
};

constexpr Packing kPackings[] = {{"exaone-3.5-2.4b", 2, 1024},
                                 {"exaone-3.5-2.4b", 16, 1024},
                                 {"exaone-3.5-2.4b", 64, 64},
                                 {"llama-3-8b", 4, 2048}};

// Queries, keys and values lie side by side, with the extra columns behind them; so do their
// gradients (LayerShape::attention).
AttentionShape shape_of(const Packing& packing) {
  const ModelShape& model = model_shape(packing.model);
  const std::int64_t query = model.query_size();
  const std::int64_t packed = query + 2 * model.key_size() + kernels::kAdapterUnit;
  return {.dtype = DType::BFloat16,
          .query_heads = model.heads,
          .key_heads = model.key_heads,
          .head_dim = model.head_dim,
          .slots = packing.documents,
          .longest = packing.length,
          .tokens = packing.documents * packing.length,
          .strides = {.q = packed,
                      .k = packed,
                      .v = packed,
                      .o = query + kernels::kAdapterUnit,
                      .d_o = query,
                      .d_q = packed,
                      .d_k = packed,
                      .d_v = packed}};
}

struct AttentionInputs {
  std::shared_ptr<PackedAttention> engine;
  at::Tensor qkv, o, stats, d_o, d_qkv, starts, lengths, offsets, workspace;
  kernels::AttentionTensors tensors;
  kernels::Documents documents;

  void forward() const {
    engine->forward(tensors, documents, workspace.mutable_data_ptr(), tensor::current_stream(qkv));
  }
  void backward() const {
    engine->backward(tensors, documents, workspace.mutable_data_ptr(), tensor::current_stream(qkv));
  }
};

void allocate(AttentionInputs& inputs, const AttentionShape& shape) {
  const std::int64_t slots = shape.slots;
  inputs.qkv = gpu_random({shape.tokens, shape.strides.q});
  inputs.o = gpu_empty({shape.tokens, shape.strides.o});
  inputs.stats = gpu_empty({shape.tokens * shape.query_heads}, at::kFloat);
  inputs.d_o = gpu_random({shape.tokens, shape.strides.d_o});
  inputs.d_qkv = gpu_empty({shape.tokens, shape.strides.d_q});
  inputs.lengths = gpu_empty({slots}, at::kInt);
  inputs.offsets = gpu_empty({kernels::kDocumentOffsets, slots + 1}, at::kLong);
  std::vector<std::int32_t> starts;
  for (std::int64_t i = 0; i <= slots; ++i) {
    starts.push_back(static_cast<std::int32_t>(i * shape.longest));
  }
  inputs.starts = gpu_copy(starts);
  inputs.documents = {static_cast<const std::int32_t*>(inputs.starts.const_data_ptr()),
                      inputs.lengths.mutable_data_ptr<std::int32_t>(),
                      inputs.offsets.mutable_data_ptr<std::int64_t>()};
}

AttentionInputs make_inputs(const Engine& engine, const AttentionShape& shape) {
  AttentionInputs inputs;
  inputs.engine = engine.make(shape);
  inputs.workspace = gpu_empty({inputs.engine->workspace_bytes()}, at::kByte);
  allocate(inputs, shape);
  const std::int64_t query = shape.query_heads * shape.head_dim;
  const std::int64_t key = shape.key_heads * shape.head_dim;
  auto* qkv = inputs.qkv.mutable_data_ptr<at::BFloat16>();
  auto* d_qkv = inputs.d_qkv.mutable_data_ptr<at::BFloat16>();
  inputs.tensors = {.q = qkv,
                    .k = qkv + query,
                    .v = qkv + query + key,
                    .o = inputs.o.mutable_data_ptr(),
                    .stats = inputs.stats.mutable_data_ptr<float>(),
                    .d_o = inputs.d_o.const_data_ptr(),
                    .d_q = d_qkv,
                    .d_k = d_qkv + query,
                    .d_v = d_qkv + query + key};
  kernels::cuda::index_documents(shape, inputs.documents, tensor::current_stream(inputs.qkv));
  inputs.forward();
  return inputs;
}

// Flops: two products over the lower half of each document's square of scores forward, five
// backward. Bytes: q, k, v read and o written forward; these and d_o read, d_q, d_k, d_v written
// backward; a float32 of each row and head either way.
KernelCase attention_case(const Engine& engine, const Packing& packing, bool backward) {
  const AttentionShape shape = shape_of(packing);
  const auto query = static_cast<double>(shape.query_heads * shape.head_dim);
  const auto key = static_cast<double>(shape.key_heads * shape.head_dim);
  const auto tokens = static_cast<double>(shape.tokens);
  const double product = tokens * static_cast<double>(packing.length) * query;
  const double columns = backward ? 4 * query + 4 * key : 2 * query + 2 * key;
  return {.kernel = fmt::format("{} attention{}", engine.name, backward ? " backward" : ""),
          .shape = fmt::format("{} x {}, {}/{} heads of {}", packing.documents, packing.length,
                               shape.query_heads, shape.key_heads, shape.head_dim),
          .bytes = tokens * (2 * columns + 4 * static_cast<double>(shape.query_heads)),
          .flops = (backward ? 5 : 2) * product,
          .prepare = [=] {
            const AttentionInputs inputs = make_inputs(engine, shape);
            return KernelWork{.run = [=] { backward ? inputs.backward() : inputs.forward(); },
                              .scratch_bytes = inputs.engine->workspace_bytes() +
                                               inputs.engine->allocated_bytes()};
          }};
}

}  // namespace

std::vector<KernelCase> attention_cases() {
  std::vector<KernelCase> cases;
  for (const Packing& packing : kPackings) {
    for (const Engine& engine : kEngines) {
      if (const auto problem = engine.problem(shape_of(packing))) {
        log::warn("attention by {} is left out: {}", engine.name, *problem);
        continue;
      }
      for (const bool backward : {false, true}) {
        cases.push_back(attention_case(engine, packing, backward));
      }
    }
  }
  return cases;
}

}  // namespace qlora::train
