#include "qlora/models/fused_llama.h"

#include "fused_weights.h"
#include "qlora/base/error.h"
#include "qlora/base/narrow.h"
#include "qlora/base/text_util.h"
#include "qlora/kernels/cuda_check.h"
#include "qlora/tensor/bridge.h"
#include "step_inputs.h"

#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <map>
#include <optional>

namespace qlora::models {
namespace {

using kernels::cuda::Matmul;
using kernels::cuda::MatmulChoice;

// Rows of logits at a time: enough for the products to run at full speed.
constexpr std::int64_t kLossRows = 512;
// Batches are padded to one of so many lengths, each with its own graphs.
constexpr std::int64_t kLengths = 4;
constexpr std::int64_t kLengthUnit = 64;

// Work recorded once and launched as a whole.
class Graph {
 public:
  template <class Work>
  Graph(cudaStream_t stream, const Work& work) {
    QLORA_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    work();
    cudaGraph_t graph = nullptr;
    QLORA_CUDA(cudaStreamEndCapture(stream, &graph));
    const cudaError_t status = cudaGraphInstantiate(&executable_, graph, 0);
    cudaGraphDestroy(graph);
    QLORA_CUDA(status);
  }
  ~Graph() { cudaGraphExecDestroy(executable_); }
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  void launch(cudaStream_t stream) const { QLORA_CUDA(cudaGraphLaunch(executable_, stream)); }

 private:
  cudaGraphExec_t executable_ = nullptr;
};

// The decoder for one padded length.
class Runner {
 public:
  // Runs once, which chooses the products' algorithms and spoils the gradients, and records.
  Runner(fused::Decoder decoder, const fused::StepInput& input)
      : decoder_(std::move(decoder)), input_(input) {
    const auto stream = c10::cuda::getStreamFromPool();
    decoder_.forward(input, stream);
    decoder_.loss(input, /*labelled=*/1, stream);
    decoder_.backward(input, stream);
    stream.synchronize();
    forward_.emplace(stream, [&] { decoder_.forward(input, stream); });
    backward_.emplace(stream, [&] { decoder_.backward(input, stream); });
  }

  void run(std::int64_t labelled, cudaStream_t stream) {
    forward_->launch(stream);
    decoder_.loss(input_, labelled, stream);
    backward_->launch(stream);
  }

 private:
  fused::Decoder decoder_;
  fused::StepInput input_;
  std::optional<Graph> forward_, backward_;
};

at::Tensor device_bytes(std::int64_t bytes, c10::Device device) {
  return at::empty({bytes}, at::TensorOptions(device).dtype(at::kByte));
}

std::int64_t padded_length(std::int64_t length, const FusedOptions& options) {
  const std::int64_t step = div_up(div_up(options.length, kLengths), kLengthUnit) * kLengthUnit;
  return div_up(length, step) * step;
}

kernels::AttentionShape attention_shape(Llama& model, const FusedOptions& options) {
  const std::int64_t longest = padded_length(options.length, options);
  return fused_shape(model).layer.attention(options.rows * longest, options.rows, longest);
}

bool trains_fully(CausalLM& model) {
  bool found = false;
  const auto look = [&](const at::Tensor& tensor) {
    found = found || (tensor.defined() && tensor.requires_grad());
  };
  model.visit({.linear = [&](const std::string&, nn::Linear& m) { look(m.weight()); },
               .embedding = [&](const std::string&, nn::Embedding& m) { look(m.weight()); },
               .norm = [&](const std::string&, nn::RmsNorm& m) { look(m.weight()); }});
  return found;
}

std::optional<std::string> adapter_problem(CausalLM& model, at::ScalarType dtype) {
  std::optional<std::string> problem;
  model.visit({.linear =
                   [&](const std::string& path, nn::Linear& m) {
                     if (m.quantized() && m.compute_dtype() != dtype) {
                       problem = fmt::format("{} computes in another type", path);
                     }
                     if (!m.adapter()) return;
                     if (m.adapter()->dropout() > 0) problem = "lora.lora_dropout is not 0";
                     if (m.adapter()->a.scalar_type() != at::kFloat) {
                       problem = "lora.dtype is not float32";
                     }
                   },
               .embedding = {},
               .norm = {}});
  return problem;
}

std::vector<fused::Recompute> everywhere(const fused::StepShape& shape, fused::Recompute mode) {
  return std::vector(static_cast<std::size_t>(shape.layers), mode);
}

fused::MemoryPlan make_plan(const fused::StepShape& shape, const FusedOptions& options) {
  auto plan =
      options.recompute
          ? fused::MemoryPlan(shape, everywhere(shape, *options.recompute))
          : fused::plan_memory(shape, options.memory)
                .value_or(fused::MemoryPlan(shape, everywhere(shape, fused::Recompute::Full)));
  if (plan.bytes() <= options.memory) return plan;
  fail(
      "the activations of {} x {} tokens need {} beside the weights, {} are free; "
      "lower training.per_device_train_batch_size or data.max_length",
      options.rows, options.length, human_bytes(plan.bytes()), human_bytes(options.memory));
}

}  // namespace

std::optional<std::string> fused_path_problem(CausalLM& model, const FusedOptions& options) {
  auto* llama = dynamic_cast<Llama*>(&model);
  if (llama == nullptr) return "the model is not of the Llama family";
  if (!model.device().is_cuda()) return "the model is not on a GPU";
  if (llama->dtype() != at::kBFloat16) return "training.bf16 is not set";
  if (model.config().hidden_size % kernels::kAugmentedUnit != 0) return "odd hidden_size";
  if (llama->plain_head_weight() == nullptr) return "the output projection is not a plain matrix";
  if (trains_fully(model)) return "lora.modules_to_save is set";
  if (auto problem = adapter_problem(model, llama->dtype())) return problem;
  return kernels::cuda::cudnn_attention_problem(attention_shape(*llama, options));
}

struct FusedLlama::State {
  FusedOptions options;
  FusedWeights weights;
  kernels::AttentionShape attention_shape;
  std::unique_ptr<kernels::PackedAttention> attention;
  at::Tensor matmul_workspace;
  Matmul matmul;
  StepInputs inputs;
  fused::StepShape shape;  // of the longest batch
  std::optional<fused::MemoryPlan> plan;
  at::Tensor block;
  std::map<std::int64_t, std::unique_ptr<Runner>> runners;  // by padded length

  State(Llama& model, const FusedOptions& o);
  // Of batches padded to `length`.
  fused::StepShape shape_of(std::int64_t length) const;
  void add_runner(std::int64_t length);
};

FusedLlama::State::State(Llama& model, const FusedOptions& o)
    : options(o),
      weights(model, o.length),
      attention_shape(models::attention_shape(model, o)),
      attention(kernels::cuda::make_cudnn_attention(attention_shape)),
      matmul_workspace(device_bytes(Matmul::kWorkspaceBytes, model.device())),
      matmul(matmul_workspace.mutable_data_ptr(), MatmulChoice::Measured),
      inputs(attention_shape, kLossRows, model.device()),
      shape(fused_shape(model)) {
  shape.tokens = attention_shape.tokens;
  shape.loss_rows = kLossRows;
  shape.attention_workspace = attention->workspace_bytes();
  plan.emplace(make_plan(shape, options));
  const std::int64_t step = padded_length(1, options);
  const std::int64_t longest = padded_length(options.length, options);
  // A plan for fewer tokens is smaller but for accidents of its placement.
  std::int64_t bytes = 0;
  for (std::int64_t length = step; length <= longest; length += step) {
    bytes = std::max(bytes, fused::MemoryPlan(shape_of(length), plan->modes()).bytes());
  }
  block = device_bytes(bytes, model.device());
  for (std::int64_t length = longest; length > 0; length -= step) add_runner(length);
}

fused::StepShape FusedLlama::State::shape_of(std::int64_t length) const {
  fused::StepShape own = shape;
  own.tokens = options.rows * length;
  return own;
}

void FusedLlama::State::add_runner(std::int64_t length) {
  const fused::StepShape own = shape_of(length);
  const fused::MemoryPlan own_plan(own, plan->modes());
  inputs.load({.rows = 0, .length = length, .ids = {}, .labels = {}}, length, 0);
  c10::cuda::device_synchronize();
  runners[length] = std::make_unique<Runner>(
      fused::Decoder(own, weights.view(), own_plan, block.mutable_data_ptr(), matmul, *attention),
      inputs.view());
}

FusedLlama::FusedLlama(Llama& model, const FusedOptions& options)
    : state_(std::make_unique<State>(model, options)) {}

FusedLlama::~FusedLlama() = default;

void FusedLlama::begin_update() {
  state_->weights.begin_update();
  state_->inputs.reset_loss();
}

void FusedLlama::accumulate(const TokenRows& batch, double scale) {
  const std::int64_t length = padded_length(batch.length, state_->options);
  const std::int64_t labelled = state_->inputs.load(batch, length, scale);
  state_->runners.at(length)->run(labelled, c10::cuda::getCurrentCUDAStream());
}

double FusedLlama::loss() const { return state_->inputs.loss(); }

std::string FusedLlama::describe() const {
  std::array<std::int64_t, 3> counts{};
  for (const fused::Recompute mode : state_->plan->modes())
    ++counts[static_cast<std::size_t>(mode)];
  return fmt::format(
      "fused path: {} of activations and workspace; layers that keep "
      "everything {}, attention alone {}, their input alone {}",
      human_bytes(state_->plan->bytes()), counts[0], counts[1], counts[2]);
}

}  // namespace qlora::models
