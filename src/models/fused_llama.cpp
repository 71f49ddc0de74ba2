#include "qlora/models/fused_llama.h"

#include "fused_weights.h"
#include "qlora/base/cache_directory.h"
#include "qlora/base/error.h"
#include "qlora/base/file.h"
#include "qlora/base/log.h"
#include "qlora/base/narrow.h"
#include "qlora/base/random.h"
#include "qlora/base/text_util.h"
#include "qlora/tensor/bridge.h"
#include "qlora/tensor/device.h"
#include "qlora/tensor/own_stream.h"
#include "qlora/tensor/packed_attention.h"
#include "step_inputs.h"

#include <ATen/cuda/CUDAGraph.h>
#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <optional>

namespace qlora::models {
namespace fs = std::filesystem;
namespace {

using kernels::cuda::Matmul;
using kernels::cuda::MatmulChoice;

// Rows of logits at a time: enough for the products to run at full speed.
constexpr std::int64_t kLossRows = 512;
// Batches are padded to one of so many lengths, each with its own graphs.
constexpr std::int64_t kLengths = 4;
constexpr std::int64_t kLengthUnit = 64;

// The decoder for one padded length.
class Runner {
 public:
  // Runs once, which chooses the products' algorithms and spoils the gradients, and records. What
  // LibTorch allocates meanwhile comes from `pool`, which graphs that never run together may share.
  Runner(fused::Decoder decoder, const fused::StepInput& input, bool graphs,
         c10::cuda::CUDAStream stream, at::cuda::MempoolId_t pool)
      : decoder_(std::move(decoder)), input_(input), graphs_(graphs) {
    const c10::cuda::CUDAStreamGuard guard(stream);
    decoder_.forward(input, stream);
    decoder_.loss(input, /*labelled=*/1, stream);
    decoder_.backward(input, stream);
    stream.synchronize();
    if (!graphs) return;
    const auto record = [&](at::cuda::CUDAGraph& graph, const auto& work) {
      graph.capture_begin(pool, cudaStreamCaptureModeThreadLocal);
      work();
      graph.capture_end();
    };
    record(forward_, [&] { decoder_.forward(input, stream); });
    record(backward_, [&] { decoder_.backward(input, stream); });
  }

  // Queues everything on the current stream.
  void run(std::int64_t labelled) {
    const auto stream = c10::cuda::getCurrentCUDAStream();
    graphs_ ? forward_.replay() : decoder_.forward(input_, stream);
    decoder_.loss(input_, labelled, stream);
    graphs_ ? backward_.replay() : decoder_.backward(input_, stream);
  }

 private:
  fused::Decoder decoder_;
  fused::StepInput input_;
  bool graphs_;
  at::cuda::CUDAGraph forward_, backward_;
};

// Timing the products anew at each start would take time, and memory for the code of all that lose.
std::string adopt_choices(const fs::path& file, Matmul& matmul) {
  std::error_code error;
  try {
    if (fs::is_regular_file(file, error)) matmul.adopt(read_text(file));
  } catch (const std::exception& problem) {
    log::info("this run times its matrix products anew: {}", problem.what());
  }
  return matmul.choices();
}

void save_choices(const fs::path& file, const Matmul& matmul, const std::string& adopted) {
  if (!file.has_parent_path() || matmul.choices() == adopted) return;
  try {
    fs::create_directories(file.parent_path());
    write_text(file, matmul.choices());
  } catch (const std::exception& error) {
    log::info("the next run will time its matrix products again: {}", error.what());
  }
}

at::Tensor device_bytes(std::int64_t bytes, c10::Device device) {
  return at::empty({bytes}, at::TensorOptions(device).dtype(at::kByte));
}

std::int64_t padded_length(std::int64_t length, const FusedOptions& options) {
  const std::int64_t step = round_up(div_up(options.length, kLengths), kLengthUnit);
  return round_up(length, step);
}

kernels::AttentionShape attention_shape(const fused::LayerShape& layer,
                                        const FusedOptions& options) {
  const std::int64_t longest = padded_length(options.length, options);
  return layer.attention(options.rows * longest, std::max(options.rows, options.documents),
                         longest);
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
  std::optional<double> dropout;
  model.visit({.linear =
                   [&](const std::string& path, nn::Linear& m) {
                     if (m.quantized() && m.compute_dtype() != dtype) {
                       problem = fmt::format("{} computes in another type", path);
                     }
                     if (!m.adapter()) return;
                     if (m.adapter()->dropout() != dropout.value_or(m.adapter()->dropout())) {
                       problem = "adapters have dropout of different rates";
                     }
                     dropout = m.adapter()->dropout();
                     if (m.adapter()->a.scalar_type() != at::kFloat) {
                       problem = "lora.dtype is not float32";
                     }
                   },
               .embedding = {},
               .norm = {}});
  return problem;
}

fused::MemoryPlan make_plan(const fused::StepShape& shape, const FusedOptions& options) {
  auto plan = options.choice ? fused::MemoryPlan(shape, *options.choice)
                             : fused::plan_memory(shape, {.budget = options.memory,
                                                          .offload = options.offload,
                                                          .fixed_tiles = options.fixed_products});
  if (plan.bytes() <= options.memory) return plan;
  fail(
      "the activations of {} x {} tokens need {} beside the weights, {} are free; "
      "lower data.max_length or training.per_device_train_batch_size (or, where it evaluates, "
      "per_device_eval_batch_size)",
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
  return tensor::packed_attention_problem(attention_shape(decoder_shape(*llama).layer, options),
                                          options.deterministic_attention);
}

struct FusedLlama::State {
  FusedOptions options;
  std::int64_t tensors_before;  // bytes
  std::int64_t held = 0;        // bytes of the tensors made here, but for `block`
  FusedWeights weights;
  kernels::AttentionShape attention_shape;
  std::unique_ptr<kernels::PackedAttention> attention;
  at::Tensor matmul_workspace;
  Matmul matmul;
  StepInputs inputs;
  fused::StepShape shape;  // of the longest batch
  std::optional<fused::MemoryPlan> plan;
  at::Tensor block;
  std::optional<fused::InputOffload> offload;
  std::map<std::int64_t, std::unique_ptr<Runner>> runners;  // by padded length

  State(Llama& model, const FusedOptions& o, const fused::DecoderShape& decoder);
  // For batches padded to `length`, in the memory of the longest.
  void add_runner(std::int64_t length, c10::cuda::CUDAStream recorder, at::cuda::MempoolId_t pool);
};

FusedLlama::State::State(Llama& model, const FusedOptions& o, const fused::DecoderShape& decoder)
    : options(o),
      tensors_before(tensor::tensor_memory(model.device())),
      weights(model, o.length, o.seed),
      attention_shape(models::attention_shape(decoder.layer, o)),
      attention(tensor::make_packed_attention(attention_shape, o.deterministic_attention)),
      matmul_workspace(device_bytes(Matmul::kWorkspaceBytes, model.device())),
      matmul(matmul_workspace.mutable_data_ptr(),
             o.fixed_products ? MatmulChoice::Heuristic : MatmulChoice::Measured),
      inputs(attention_shape, kLossRows, /*dropout=*/decoder.layer.dropout > 0, model.device()),
      shape{decoder, attention_shape.tokens, kLossRows, attention->workspace_bytes()} {
  held = tensor::tensor_memory(model.device()) - tensors_before;
  options.memory -= held + attention->allocated_bytes();
  plan.emplace(make_plan(shape, options));
  const std::int64_t step = padded_length(1, options);
  const std::int64_t longest = padded_length(options.length, options);
  block = device_bytes(plan->bytes(), model.device());
  if (plan->choice().offload) {
    offload.emplace(
        static_cast<std::size_t>(shape.layers),
        shape.tokens * shape.layer.hidden * static_cast<std::int64_t>(size_of(shape.layer.dtype)));
  }
  // Before any choice the text names GPU and library: each has a file.
  const fs::path choices =
      cache_directory() / fmt::format("matmul-{:016x}.txt", stable_hash(matmul.choices()));
  const std::string adopted = adopt_choices(choices, matmul);
  const auto recorder = tensor::own_stream(tensor::StreamUse::Recording, model.device());
  const auto pool = at::cuda::graph_pool_handle();
  for (std::int64_t length = longest; length > 0; length -= step) {
    add_runner(length, recorder, pool);
  }
  save_choices(choices, matmul, adopted);
  weights.zero_gradients();
  inputs.loss().zero_();
  tensor::release_cached_memory(model.device());  // of the runs before the recording
}

void FusedLlama::State::add_runner(std::int64_t length, c10::cuda::CUDAStream recorder,
                                   at::cuda::MempoolId_t pool) {
  fused::StepShape own = shape;
  own.tokens = options.rows * length;
  inputs.load({.rows = 0, .length = length}, options.rows, length, 0);
  c10::cuda::device_synchronize();
  runners[length] =
      std::make_unique<Runner>(fused::Decoder(own, weights.view(), *plan, block.mutable_data_ptr(),
                                              offload ? &*offload : nullptr, matmul, *attention),
                               inputs.view(), options.graphs, recorder, pool);
}

FusedLlama::FusedLlama(Llama& model, const FusedOptions& options) {
  if (const auto problem = fused_path_problem(model, options)) fail("fused path: {}", *problem);
  state_ = std::make_unique<State>(model, options, decoder_shape(model));
}

FusedLlama::~FusedLlama() = default;

std::vector<tensor::CopyTarget> FusedLlama::copies() const { return state_->weights.copies(); }

void FusedLlama::accumulate(const TokenRows& batch, double scale) {
  QLORA_ASSERT(batch.rows <= state_->options.rows && batch.length <= state_->options.length);
  const std::int64_t length = padded_length(batch.length, state_->options);
  const std::int64_t labelled = state_->inputs.load(batch, state_->options.rows, length, scale);
  state_->runners.at(length)->run(labelled);
}

const at::Tensor& FusedLlama::loss_sum() const { return state_->inputs.loss(); }

fused::MemoryChoice FusedLlama::choice() const { return state_->plan->choice(); }

FusedMemory FusedLlama::memory() const {
  FusedMemory memory{.held = state_->held - Matmul::kWorkspaceBytes,
                     .products = Matmul::kWorkspaceBytes,
                     .attention = state_->attention->allocated_bytes()};
  for (const fused::Region& region : state_->plan->regions()) {
    if (region.lifetime == fused::kAlways) memory.kept += region.bytes;
  }
  memory.at_work = static_cast<std::int64_t>(state_->block.nbytes()) - memory.kept;
  return memory;
}

}  // namespace qlora::models
