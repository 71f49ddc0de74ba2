#pragma once
// A decoder layer's forward pass and its hand-written backward pass, queued on one stream without
// waiting, so that both can be captured into a CUDA graph. Of LibTorch's memory, FlashAttention
// alone takes some.
//
//   h = x + Out(attention(rope(Qkv(norm(x)))))
//   y = h + Down(silu(gate) * up)     gate | up = GateUp(norm(h))
//
// Sums in float32, each result rounded once, but an input's gradient with dropout twice; the
// residual additions ride in the products.

#include "qlora/fused/layer.h"
#include "qlora/kernels/matmul.h"
#include "qlora/kernels/rope.h"

namespace qlora::fused {

// What a layer's backward pass reads. The memory may be shared with other layers where recompute
// fills it again.
struct Activations {
  void* x = nullptr;                     // [tokens, hidden], the input
  float* input_rstd = nullptr;           // [tokens]
  void* qkv = nullptr;                   // [tokens, qkv_stride]; turned, unless head_norm
  void* attended = nullptr;              // [tokens, attended_stride]
  float* statistics = nullptr;           // [tokens · query_heads], see attention.h
  void* middle = nullptr;                // [tokens, hidden], h
  float* middle_rstd = nullptr;          // [tokens]
  void* gate_up = nullptr;               // [tokens, gate_up_stride]; backward overwrites it
  bool keeps_gate_up = true;             // false: gate_up has room for mlp_rows tokens alone
  std::array<void*, kGroups> reduced{};  // [tokens, rank_sum], each group's input · Aᵀ
};

// Memory that no layer keeps.
struct Workspace {
  std::int64_t mlp_rows = 0;             // tokens that go through the MLP at a time
  bool keeps_weights = true;             // from recompute to backward, those of Qkv and Out
  std::array<void*, kGroups> weights{};  // augmented weights
  void* normed = nullptr;                // [tokens, normed_stride]
  void* activated = nullptr;             // [mlp_rows, activated_stride]
  void* d_attended = nullptr;            // [tokens, query_size]
  void* d_qkv = nullptr;                 // [tokens, qkv_stride]
  void* turned = nullptr;                // [tokens, turned_stride], of a head_norm model
  void* attention = nullptr;             // of the attention engine
};

// The tokens of a micro-step.
struct TokenRun {
  std::int64_t tokens = 0;
  kernels::Documents documents;
  kernels::RopeAngles angles;             // with the tokens' positions, which dropout knows, too
  const std::int64_t* samples = nullptr;  // [tokens], their names for dropout (dropout.h), or null
};

class Block {
 public:
  Block(const LayerShape& shape, kernels::cuda::Matmul& matmul,
        kernels::PackedAttention& attention);

  // y: [tokens, hidden]; may not be x or h.
  void forward(const LayerWeights& weights, const Activations& kept, const TokenRun& run,
               const Workspace& space, void* y, kernels::Stream stream);

  // Fills again what backward reads of the layer's first half and memory was shared for, from x
  // (and, unless `with_attention`, from `attended`). Makes the augmented weights of Qkv and Out.
  void recompute(const LayerWeights& weights, const Activations& kept, const TokenRun& run,
                 const Workspace& space, bool with_attention, kernels::Stream stream);

  // gradient: [tokens, gradient_stride], that of y, replaced by that of x (unless `last`: nothing
  // trainable lies below, and it is left undefined). Adds to the adapters' gradients.
  // `recomputed`: recompute came before.
  void backward(const LayerWeights& weights, const Activations& kept, const TokenRun& run,
                const Workspace& space, void* gradient, bool recomputed, bool last,
                kernels::Stream stream);

 private:
  struct Pass;

  LayerShape shape_;
  kernels::cuda::Matmul& matmul_;
  kernels::PackedAttention& attention_;
};

}  // namespace qlora::fused
