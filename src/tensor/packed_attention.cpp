#include "qlora/tensor/packed_attention.h"

#include "qlora/base/error.h"
#include "qlora/base/narrow.h"
#include "qlora/kernels/copy_rows.h"
#include "qlora/kernels/cuda_check.h"
#include "qlora/tensor/bridge.h"

#include <ATen/Context.h>
#include <ATen/ops/_flash_attention_backward.h>
#include <ATen/ops/_flash_attention_forward.h>
#include <ATen/ops/from_blob.h>
#include <c10/core/InferenceMode.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>
#include <cuda_runtime_api.h>

#include <limits>

namespace qlora::tensor {
namespace {

using kernels::AttentionShape;
using kernels::AttentionTensors;
using kernels::Documents;

// cuDNN lost to FlashAttention-2 on 64 documents of 64 tokens and won from 512 on (one H200).
constexpr std::int64_t kTinyDocuments = 128;

// cuDNN's backward works on float32 rows of slots times the longest document, which may be no more
// than so many times the tokens: many short documents beside a long one would take gigabytes.
constexpr std::int64_t kMostSlack = 8;

// The backward starts each document this many rows further into its float32 d_q.
constexpr std::int64_t kRowsBetweenDocuments = 128;

// D as the kernels round it up.
std::int64_t rounded_head(const AttentionShape& shape) {
  const std::int64_t unit = shape.head_dim <= 128 ? 32 : 64;
  return round_up(shape.head_dim, unit);
}

std::int64_t padded_rows(const AttentionShape& shape) {
  return shape.tokens + kRowsBetweenDocuments * shape.slots;
}

int device_attribute(cudaDeviceAttr attribute) {
  int value = 0;
  QLORA_CUDA(cudaDeviceGetAttribute(&value, attribute, c10::cuda::current_device()));
  return value;
}

// Makes ATen choose the deterministic backward. Its allocations must not be filled meanwhile,
// which is what deterministic mode does to find readers of uninitialized memory.
class DeterministicScope {
 public:
  explicit DeterministicScope(bool wanted)
      : was_on_(context_.deterministicAlgorithms()),
        did_warn_only_(context_.deterministicAlgorithmsWarnOnly()),
        did_fill_(context_.deterministicFillUninitializedMemory()) {
    context_.setDeterministicAlgorithms(wanted, false);
    context_.setDeterministicFillUninitializedMemory(false);
  }
  ~DeterministicScope() {
    context_.setDeterministicAlgorithms(was_on_, did_warn_only_);
    context_.setDeterministicFillUninitializedMemory(did_fill_);
  }
  DeterministicScope(const DeterministicScope&) = delete;
  DeterministicScope& operator=(const DeterministicScope&) = delete;

 private:
  at::Context& context_ = at::globalContext();
  bool was_on_;
  bool did_warn_only_;
  bool did_fill_;
};

class FlashAttention final : public kernels::PackedAttention {
 public:
  FlashAttention(const AttentionShape& shape, bool deterministic)
      : shape_(shape),
        deterministic_(deterministic),
        device_(c10::kCUDA, c10::cuda::current_device()) {
    const std::int64_t blocks = shape.slots * shape.query_heads;
    if (deterministic) {
      d_q_copies_ = div_up<std::int64_t>(device_attribute(cudaDevAttrMultiProcessorCount), blocks);
    }
  }

  std::int64_t workspace_bytes() const override { return 0; }

  // Of the backward, which takes more than the forward's o and stats.
  std::int64_t allocated_bytes() const override {
    const std::int64_t query = shape_.tokens * shape_.query_heads * shape_.head_dim;
    const std::int64_t key = shape_.tokens * shape_.key_heads * shape_.head_dim;
    const std::int64_t rows = padded_rows(shape_) * shape_.query_heads;
    const bool is_grouped = shape_.key_heads != shape_.query_heads;
    const std::int64_t width = shape_.query_heads * shape_.head_dim;
    std::int64_t bytes = 2 * (query + 2 * key);                    // d_q, d_k, d_v
    bytes += 4 * rows * (1 + d_q_copies_ * rounded_head(shape_));  // row sums, float32 d_q
    bytes += is_grouped ? 2 * 2 * query : 0;                       // d_k, d_v of query heads
    bytes += 2 * query * ((shape_.strides.o != width) + (shape_.strides.d_o != width));  // dense
    return bytes + kAllocations * kAllocationUnit;
  }

  void forward(const AttentionTensors& tensors, const Documents& documents, void*,
               kernels::Stream stream) override {
    const Scope scope(device_, stream);
    const at::Tensor starts = starts_of(documents);
    const auto [o, stats, rng_state, unused, mask] = at::_flash_attention_forward(
        query(tensors.q, shape_.strides.q), key(tensors.k, shape_.strides.k),
        key(tensors.v, shape_.strides.v), starts, starts, shape_.longest, shape_.longest,
        /*dropout_p=*/0, /*is_causal=*/true, /*return_debug_mask=*/false);
    copy(o, tensors.o, shape_.strides.o, documents, stream);
    QLORA_ASSERT(stats.is_contiguous() && stats.numel() == shape_.tokens * shape_.query_heads);
    QLORA_CUDA(cudaMemcpyAsync(tensors.stats, stats.const_data_ptr(), stats.nbytes(),
                               cudaMemcpyDeviceToDevice, static_cast<cudaStream_t>(stream)));
  }

  void backward(const AttentionTensors& tensors, const Documents& documents, void*,
                kernels::Stream stream) override {
    const Scope scope(device_, stream);
    const DeterministicScope deterministic(deterministic_);
    const at::Tensor starts = starts_of(documents);
    const at::Tensor stats = over(tensors.stats, at::kFloat, {shape_.query_heads, shape_.tokens});
    const at::Tensor no_dropout;
    const auto [d_q, d_k, d_v] = at::_flash_attention_backward(
        query(tensors.d_o, shape_.strides.d_o), query(tensors.q, shape_.strides.q),
        key(tensors.k, shape_.strides.k), key(tensors.v, shape_.strides.v),
        query(tensors.o, shape_.strides.o), stats, starts, starts, shape_.longest, shape_.longest,
        /*dropout_p=*/0, /*is_causal=*/true, no_dropout, no_dropout);
    copy(d_q, tensors.d_q, shape_.strides.d_q, documents, stream);
    copy(d_k, tensors.d_k, shape_.strides.d_k, documents, stream);
    copy(d_v, tensors.d_v, shape_.strides.d_v, documents, stream);
  }

 private:
  // Large blocks are handed out in this unit; how many the backward takes at most.
  static constexpr std::int64_t kAllocationUnit = 2 << 20;
  static constexpr std::int64_t kAllocations = 9;

  // Runs ATen on the caller's stream, without autograd.
  struct Scope {
    Scope(c10::Device device, kernels::Stream stream)
        : guard(c10::cuda::getStreamFromExternal(static_cast<cudaStream_t>(stream),
                                                 device.index())) {}
    c10::InferenceMode inference;
    c10::cuda::CUDAStreamGuard guard;
  };

  // The caller's memory as a dense tensor, and as one of [T, heads, D]. Naming the device spares
  // LibTorch a question to the driver at every call.
  at::Tensor over(const void* data, at::ScalarType type, at::IntArrayRef sizes,
                  at::OptionalIntArrayRef strides = std::nullopt) const {
    return at::for_blob(const_cast<void*>(data), sizes)
        .strides(strides)
        .options(at::device(device_).dtype(type))
        .target_device(device_)
        .make_tensor();
  }
  at::Tensor view(const void* data, std::int64_t heads, std::int64_t stride) const {
    return over(data, scalar_type(shape_.dtype), {shape_.tokens, heads, shape_.head_dim},
                at::IntArrayRef({stride, shape_.head_dim, 1}));
  }
  at::Tensor query(const void* data, std::int64_t stride) const {
    return view(data, shape_.query_heads, stride);
  }
  at::Tensor key(const void* data, std::int64_t stride) const {
    return view(data, shape_.key_heads, stride);
  }

  at::Tensor starts_of(const Documents& documents) const {
    return over(documents.starts, at::kInt, {shape_.slots + 1});
  }

  // The rows of documents; ATen leaves what lies behind them undefined.
  void copy(const at::Tensor& from, void* to, std::int64_t stride, const Documents& documents,
            kernels::Stream stream) const {
    const std::int64_t width = from.size(1) * from.size(2);
    QLORA_ASSERT(from.stride(1) == from.size(2) && from.stride(2) == 1);
    kernels::cuda::copy_rows({from.const_data_ptr(), 2 * from.stride(0), to, 2 * stride, 2 * width},
                             documents.starts + shape_.slots, shape_.tokens, stream);
  }

  AttentionShape shape_;
  bool deterministic_;
  c10::Device device_;
  std::int64_t d_q_copies_ = 1;
};

}  // namespace

std::optional<std::string> flash_attention_problem(const AttentionShape& shape) {
  if (auto problem = kernels::attention_shape_problem(shape)) return problem;
  if (shape.head_dim > 256) {
    return fmt::format("expected a head of at most 256, got {}", shape.head_dim);
  }
  // The kernels count the elements of the float32 d_q in 32 bits.
  const std::int64_t row = shape.query_heads * rounded_head(shape);
  if (checked_mul(padded_rows(shape), row) > std::numeric_limits<std::int32_t>::max()) {
    return fmt::format(
        "expected at most {} tokens with {} slots, got {}",
        std::numeric_limits<std::int32_t>::max() / row - kRowsBetweenDocuments * shape.slots,
        shape.slots, shape.tokens);
  }
  if (c10::cuda::device_count() == 0) return "no CUDA device";
  if (device_attribute(cudaDevAttrComputeCapabilityMajor) < 8) {
    return "expected a GPU of compute capability 8.0 or higher";
  }
  return std::nullopt;
}

std::unique_ptr<kernels::PackedAttention> make_flash_attention(const AttentionShape& shape,
                                                               bool deterministic) {
  if (const auto problem = flash_attention_problem(shape)) {
    fail("attention by FlashAttention-2: {}", *problem);
  }
  return std::make_unique<FlashAttention>(shape, deterministic);
}

std::optional<std::string> packed_attention_problem(const AttentionShape& shape,
                                                    bool deterministic) {
  const auto problem = flash_attention_problem(shape);
  if (!problem || deterministic) return problem;
  return kernels::cuda::cudnn_attention_problem(shape) ? problem : std::nullopt;
}

std::unique_ptr<kernels::PackedAttention> make_packed_attention(const AttentionShape& shape,
                                                                bool deterministic) {
  const bool wide = shape.slots * shape.longest > kMostSlack * shape.tokens;
  const bool suits_flash =
      (wide || shape.longest <= kTinyDocuments) && !flash_attention_problem(shape);
  if (!deterministic && !suits_flash && !kernels::cuda::cudnn_attention_problem(shape)) {
    return kernels::cuda::make_cudnn_attention(shape);
  }
  return make_flash_attention(shape, deterministic);
}

}  // namespace qlora::tensor
