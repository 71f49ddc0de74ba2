// The graphs follow the samples of NVIDIA/cudnn-frontend (samples/cpp/sdpa) and its README's
// section on scaled dot product attention. This is the one file that includes the frontend: it
// takes a minute to compile.

#include "attention_layout.h"
#include "qlora/base/error.h"
#include "qlora/kernels/cuda_check.h"

#include <cuda_runtime_api.h>

#include <cmath>

// Graphs are not serialised: leaves out the frontend's own copy of nlohmann/json.
#define CUDNN_FRONTEND_SKIP_JSON_LIB
// Called for one fused norm alone: as weak symbols they do not tie every program to libnvrtc.
#pragma weak nvrtcCompileProgram
#pragma weak nvrtcCreateProgram
#pragma weak nvrtcDestroyProgram
#pragma weak nvrtcGetCUBIN
#pragma weak nvrtcGetCUBINSize
#pragma weak nvrtcGetProgramLog
#pragma weak nvrtcGetProgramLogSize
#include <cudnn_frontend.h>

namespace qlora::kernels::cuda {
namespace {

namespace fe = cudnn_frontend;
using Graph = fe::graph::Graph;
using Tensor = std::shared_ptr<fe::graph::Tensor_attributes>;

// A tensor's name in both graphs. The first nine are in the order of Documents::offsets; the
// offsets of tensor `id` are named kOffsets + id.
enum Id : std::int64_t { kQ, kK, kV, kO, kDO, kDQ, kDK, kDV, kStats, kLengths, kOffsets };
static_assert(kLengths == kDocumentOffsets);

void check(fe::error_t error, const char* step) {
  if (error.is_good()) return;
  const std::string text = error.get_message();
  fail("attention by cuDNN {}: {} failed: {}", cudnnGetVersion(), step,
       text.substr(0, text.find('\n')));
}

void check(cudnnStatus_t status, const char* call) {
  if (status != CUDNN_STATUS_SUCCESS) fail("{} failed: {}", call, cudnnGetErrorString(status));
}

class Handle {
 public:
  Handle() { check(cudnnCreate(&handle_), "cudnnCreate"); }
  ~Handle() { cudnnDestroy(handle_); }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;

  cudnnHandle_t get() const { return handle_; }

 private:
  cudnnHandle_t handle_ = nullptr;
};

// Describes tensors to one graph. cuDNN's order of dimensions is [slots, heads, longest, D]; a
// document's place comes from the offsets in place of the first stride.
class Describe {
 public:
  Describe(const AttentionShape& shape, Graph& graph)
      : shape_(shape), strides_(offset_strides(shape)), graph_(graph) {
    const auto element =
        shape.dtype == DType::Float16 ? fe::DataType_t::HALF : fe::DataType_t::BFLOAT16;
    graph.set_io_data_type(element)
        .set_intermediate_data_type(fe::DataType_t::FLOAT)
        .set_compute_data_type(fe::DataType_t::FLOAT)
        .set_cuda_graph_retention(fe::CudaGraphRetention_t::NONE);
  }

  Tensor input(Id id) {
    Tensor tensor = graph_.tensor(fe::graph::Tensor_attributes());
    place(id, tensor);
    return tensor;
  }

  void output(Id id, const Tensor& tensor) {
    tensor->set_output(true);
    place(id, tensor);
  }

  // What both directions are told; `Attributes` is the forward's or the backward's.
  template <class Attributes>
  Attributes rules() {
    const Tensor lengths = integers(kLengths, shape_.slots, fe::DataType_t::INT32);
    Attributes attributes;
    attributes.set_attn_scale(static_cast<float>(1 / std::sqrt(double(shape_.head_dim))))
        .set_padding_mask(true)
        .set_seq_len_q(lengths)
        .set_seq_len_kv(lengths)
        .set_diagonal_alignment(fe::DiagonalAlignment_t::TOP_LEFT)
        .set_diagonal_band_right_bound(0);
    return attributes;
  }

 private:
  Tensor integers(std::int64_t id, std::int64_t count, fe::DataType_t type) {
    return graph_.tensor(fe::graph::Tensor_attributes()
                             .set_uid(id)
                             .set_dim({count, 1, 1, 1})
                             .set_stride({1, 1, 1, 1})
                             .set_data_type(type));
  }

  void place(Id id, const Tensor& tensor) {
    const bool is_key = id == kK || id == kV || id == kDK || id == kDV;
    const std::int64_t heads = is_key ? shape_.key_heads : shape_.query_heads;
    const std::int64_t width = id == kStats ? 1 : shape_.head_dim;
    const std::int64_t stride = strides_.values[id];
    tensor->set_uid(id)
        .set_dim({shape_.slots, heads, shape_.longest, width})
        .set_stride({shape_.longest * stride, width, stride, 1})
        .set_ragged_offset(integers(kOffsets + id, shape_.slots + 1, fe::DataType_t::INT64));
    if (id == kStats) tensor->set_data_type(fe::DataType_t::FLOAT);
  }

  const AttentionShape& shape_;
  OffsetStrides strides_;
  Graph& graph_;
};

void describe_forward(const AttentionShape& shape, Graph& graph) {
  Describe describe(shape, graph);
  const auto rules = describe.rules<fe::graph::SDPA_attributes>().set_generate_stats(true);
  const auto [o, stats] =
      graph.sdpa(describe.input(kQ), describe.input(kK), describe.input(kV), rules);
  describe.output(kO, o);
  describe.output(kStats, stats);
}

void describe_backward(const AttentionShape& shape, Graph& graph) {
  Describe describe(shape, graph);
  // Without max_total_seq_len the workspace grows with slots times longest; with it, cuDNN 9.19
  // mixes up the gradients of neighbouring documents (seen on an H200).
  const auto rules = describe.rules<fe::graph::SDPA_backward_attributes>();
  const auto [d_q, d_k, d_v] =
      graph.sdpa_backward(describe.input(kQ), describe.input(kK), describe.input(kV),
                          describe.input(kO), describe.input(kDO), describe.input(kStats), rules);
  describe.output(kDQ, d_q);
  describe.output(kDK, d_k);
  describe.output(kDV, d_v);
}

// Chooses among cuDNN's kernels without compiling them; throws Error where none fits.
void plan(Graph& graph, const Handle& handle) {
  check(graph.validate(), "validation");
  check(graph.build_operation_graph(handle.get()), "building the graph");
  check(graph.create_execution_plans({fe::HeurMode_t::A}), "finding a kernel");
  check(graph.check_support(), "finding a kernel");
}

class CudnnAttention final : public PackedAttention {
 public:
  explicit CudnnAttention(const AttentionShape& shape) : slots_(shape.slots) {
    if (const auto problem = attention_shape_problem(shape)) fail("attention: {}", *problem);
    describe_forward(shape, forward_);
    describe_backward(shape, backward_);
    for (Graph* graph : {&forward_, &backward_}) {
      plan(*graph, handle_);
      check(graph->build_plans(), "compiling");
      std::int64_t bytes = 0;
      check(graph->get_workspace_size(bytes), "asking for the workspace");
      workspace_bytes_ = std::max(workspace_bytes_, bytes);
    }
  }

  std::int64_t workspace_bytes() const override { return workspace_bytes_; }
  std::int64_t allocated_bytes() const override { return 0; }

  void forward(const AttentionTensors& tensors, const Documents& documents, void* workspace,
               Stream stream) override {
    run(forward_, tensors, documents, workspace, stream);
  }

  void backward(const AttentionTensors& tensors, const Documents& documents, void* workspace,
                Stream stream) override {
    run(backward_, tensors, documents, workspace, stream);
  }

 private:
  // Each graph takes the pointers that it has a tensor for.
  void run(const Graph& graph, const AttentionTensors& tensors, const Documents& documents,
           void* workspace, Stream stream) {
    const auto writable = [](const void* pointer) { return const_cast<void*>(pointer); };
    std::unordered_map<std::int64_t, void*> pointers = {
        {kQ, writable(tensors.q)}, {kK, writable(tensors.k)},
        {kV, writable(tensors.v)}, {kO, tensors.o},
        {kStats, tensors.stats},   {kDO, writable(tensors.d_o)},
        {kDQ, tensors.d_q},        {kDK, tensors.d_k},
        {kDV, tensors.d_v},        {kLengths, documents.lengths},
    };
    for (std::int64_t id = 0; id < kDocumentOffsets; ++id) {
      pointers[kOffsets + id] = documents.offsets + id * (slots_ + 1);
    }
    check(cudnnSetStream(handle_.get(), static_cast<cudaStream_t>(stream)), "cudnnSetStream");
    check(graph.execute(handle_.get(), pointers, workspace), "execution");
  }

  std::int64_t slots_;
  Handle handle_;
  Graph forward_;
  Graph backward_;
  std::int64_t workspace_bytes_ = 0;
};

}  // namespace

std::optional<std::string> cudnn_attention_problem(const AttentionShape& shape) {
  if (auto problem = attention_shape_problem(shape)) return problem;
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) return "no CUDA device";
  try {
    const Handle handle;
    Graph forward, backward;
    describe_forward(shape, forward);
    plan(forward, handle);
    describe_backward(shape, backward);
    plan(backward, handle);
  } catch (const Error& error) {
    return error.what();
  }
  return std::nullopt;
}

std::unique_ptr<PackedAttention> make_cudnn_attention(const AttentionShape& shape) {
  return std::make_unique<CudnnAttention>(shape);
}

}  // namespace qlora::kernels::cuda
