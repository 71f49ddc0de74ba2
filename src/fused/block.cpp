#include "qlora/fused/block.h"

#include "group_product.h"
#include "qlora/kernels/rms_norm.h"
#include "qlora/kernels/rope.h"
#include "qlora/kernels/swiglu.h"

namespace qlora::fused {

using kernels::ConstRows;
using kernels::Rows;

// One pass through a layer: what its steps share, and the steps that passes have in common.
struct Block::Pass {
  const LayerShape& shape;
  kernels::cuda::Matmul& matmul;
  kernels::PackedAttention& attention;
  const LayerWeights& weights;
  const Activations& kept;
  const TokenRun& run;
  const Workspace& space;
  kernels::Stream stream;

  Rows x() const { return {kept.x, shape.hidden}; }
  Rows middle() const { return {kept.middle, shape.hidden}; }
  Rows qkv() const { return {kept.qkv, shape.qkv_stride()}; }
  Rows attended() const { return {kept.attended, shape.attended_stride()}; }
  Rows gate_up() const { return {kept.gate_up, shape.gate_up_stride()}; }
  Rows normed() const { return {space.normed, shape.normed_stride()}; }
  Rows activated() const { return {space.activated, shape.activated_stride()}; }
  Rows d_attended() const { return {space.d_attended, shape.query_size()}; }
  Rows d_qkv() const { return {space.d_qkv, shape.qkv_stride()}; }
  ConstRows reduced(Group group) const {
    return {kept.reduced[group], weights.groups[group].extra()};
  }

  GroupProduct product(Group group) const {
    return {{matmul, shape.dtype, run.tokens, stream}, weights.groups[group], space.weights[group]};
  }
  // Column `column` of `rows` first.
  Rows from_column(Rows rows, std::int64_t column) const {
    const auto bytes = column * static_cast<std::int64_t>(size_of(shape.dtype));
    return {static_cast<std::byte*>(rows.data) + bytes, rows.stride};
  }
  Rows keys(Rows qkv) const { return from_column(qkv, shape.query_size()); }
  Rows values(Rows qkv) const {
    return from_column(qkv, shape.query_size() + shape.key_heads * shape.head_dim);
  }
  // Where attention finds queries and keys.
  Rows turned() const {
    return shape.head_norm ? Rows{space.turned, shape.turned_stride()} : qkv();
  }
  kernels::HeadShape heads() const {
    return {run.tokens, shape.query_heads + shape.key_heads, shape.head_dim};
  }
  kernels::HeadNorm head_norm() const {
    return {weights.q_norm, weights.k_norm, shape.query_heads, shape.norm_eps};
  }
  kernels::AttentionTensors attention_tensors() const {
    return {.q = turned().data,
            .k = keys(turned()).data,
            .v = values(qkv()).data,
            .o = kept.attended,
            .stats = kept.statistics,
            .d_o = space.d_attended,
            .d_q = space.d_qkv,
            .d_k = keys(d_qkv()).data,
            .d_v = values(d_qkv()).data};
  }

  void norm(Rows in, const void* weight, float* rstd) const {
    kernels::cuda::rms_norm(in, weight, shape.dtype, run.tokens, shape.hidden, shape.norm_eps,
                            normed(), rstd, stream);
  }
  // Afterwards normed() holds the norm's output again.
  void norm_backward(Rows in, const void* weight, const float* rstd, Rows gradient) const {
    kernels::cuda::rms_norm_backward({.dy = normed(),
                                      .x = in,
                                      .weight = weight,
                                      .rstd = rstd,
                                      .dx_add = gradient,
                                      .dx = gradient,
                                      .y = normed()},
                                     shape.dtype, run.tokens, shape.hidden, stream);
  }
  void activate() const {
    kernels::cuda::swiglu(gate_up(), shape.padded_intermediate(), shape.dtype, run.tokens,
                          shape.padded_intermediate(), activated(), stream);
  }
  // Turns activated(), the gradient, into the activation again, and gate_up() into its gradient.
  void activate_backward() const {
    kernels::cuda::swiglu_backward({.gate_up = gate_up(),
                                    .dh = activated(),
                                    .d_gate_up = gate_up(),
                                    .h = activated(),
                                    .up_offset = shape.padded_intermediate()},
                                   shape.dtype, run.tokens, shape.padded_intermediate(), stream);
  }
  void turn() const {
    if (shape.head_norm) {
      kernels::cuda::head_norm_rope(qkv(), shape.dtype, heads(), head_norm(), run.angles, turned(),
                                    stream);
    } else {
      kernels::cuda::rope(qkv(), shape.dtype, heads(), run.angles, kernels::RopeDirection::Forward,
                          qkv(), stream);
    }
  }
  void turn_back() const {
    if (shape.head_norm) {
      kernels::cuda::head_norm_rope_backward(d_qkv(), qkv(), shape.dtype, heads(), head_norm(),
                                             run.angles, d_qkv(), stream);
    } else {
      kernels::cuda::rope(d_qkv(), shape.dtype, heads(), run.angles,
                          kernels::RopeDirection::Backward, d_qkv(), stream);
    }
  }
  void attend() const {
    attention.forward(attention_tensors(), run.documents, space.attention, stream);
  }
  void attend_backward() const {
    attention.backward(attention_tensors(), run.documents, space.attention, stream);
  }
  // First pass: reduces the input and keeps that; `again`: takes what was kept.
  void project(Group group, Rows in, ConstRows residual, Rows out, bool again) const;
};

void Block::Pass::project(Group group, Rows in, ConstRows residual, Rows out, bool again) const {
  const GroupProduct p = product(group);
  p.assemble();
  if (again) {
    p.restore(kept.reduced[group], in);
  } else {
    p.reduce(in);
    p.keep(in, kept.reduced[group]);
  }
  p.apply(in, residual, weights.bias[group], out);
}

Block::Block(const LayerShape& shape, kernels::cuda::Matmul& matmul,
             kernels::PackedAttention& attention)
    : shape_(shape), matmul_(matmul), attention_(attention) {}

void Block::forward(const LayerWeights& weights, const Activations& kept, const TokenRun& run,
                    const Workspace& space, void* y, kernels::Stream stream) {
  const Pass pass{shape_, matmul_, attention_, weights, kept, run, space, stream};
  pass.norm(pass.x(), weights.input_norm, kept.input_rstd);
  pass.project(kQkv, pass.normed(), {}, pass.qkv(), false);
  pass.turn();
  pass.attend();
  pass.project(kOut, pass.attended(), pass.x(), pass.middle(), false);
  pass.norm(pass.middle(), weights.post_attention_norm, kept.middle_rstd);
  pass.project(kGateUp, pass.normed(), {}, pass.gate_up(), false);
  pass.activate();
  pass.project(kDown, pass.activated(), pass.middle(), {y, shape_.hidden}, false);
}

void Block::recompute(const LayerWeights& weights, const Activations& kept, const TokenRun& run,
                      const Workspace& space, bool with_attention, kernels::Stream stream) {
  const Pass pass{shape_, matmul_, attention_, weights, kept, run, space, stream};
  pass.norm(pass.x(), weights.input_norm, kept.input_rstd);
  pass.project(kQkv, pass.normed(), {}, pass.qkv(), true);
  pass.turn();
  if (with_attention) pass.attend();
  pass.project(kOut, pass.attended(), pass.x(), pass.middle(), true);
  pass.norm(pass.middle(), weights.post_attention_norm, kept.middle_rstd);
  pass.project(kGateUp, pass.normed(), {}, pass.gate_up(), true);
}

void Block::backward(const LayerWeights& weights, const Activations& kept, const TokenRun& run,
                     const Workspace& space, void* gradient, bool recomputed, bool last,
                     kernels::Stream stream) {
  const Pass pass{shape_, matmul_, attention_, weights, kept, run, space, stream};
  const Rows dy{gradient, shape_.gradient_stride()};
  const auto begin = [&](Group group, Rows d_out) {
    const GroupProduct p = pass.product(group);
    if (!recomputed || group == kDown) p.assemble();
    p.extend(d_out);
    p.add_b_gradient(d_out, pass.reduced(group), weights.gradients[group]);
    return p;
  };

  const GroupProduct down = begin(kDown, dy);
  down.input_gradient(dy, pass.activated());
  pass.activate_backward();
  down.add_a_gradient(dy, pass.activated(), weights.gradients[kDown]);

  const GroupProduct gate_up = begin(kGateUp, pass.gate_up());
  gate_up.input_gradient(pass.gate_up(), pass.normed());
  pass.norm_backward(pass.middle(), weights.post_attention_norm, kept.middle_rstd, dy);
  gate_up.add_a_gradient(pass.gate_up(), pass.normed(), weights.gradients[kGateUp]);

  const GroupProduct out = begin(kOut, dy);
  out.input_gradient(dy, pass.d_attended());
  out.add_a_gradient(dy, pass.attended(), weights.gradients[kOut]);
  if (shape_.head_norm && !recomputed) pass.turn();
  pass.attend_backward();
  pass.turn_back();

  const GroupProduct qkv = begin(kQkv, pass.d_qkv());
  if (last) {
    pass.norm(pass.x(), weights.input_norm, kept.input_rstd);
  } else {
    qkv.input_gradient(pass.d_qkv(), pass.normed());
    pass.norm_backward(pass.x(), weights.input_norm, kept.input_rstd, dy);
  }
  qkv.add_a_gradient(pass.d_qkv(), pass.normed(), weights.gradients[kQkv]);
}

}  // namespace qlora::fused
