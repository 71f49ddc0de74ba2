#include "qlora/fused/block.h"

#include "group_product.h"
#include "part_of.h"
#include "qlora/kernels/rms_norm.h"
#include "qlora/kernels/rope.h"
#include "qlora/kernels/swiglu.h"

#include <algorithm>

namespace qlora::fused {

using kernels::ConstRows;
using kernels::Rows;

// One pass of tokens through a layer: what its steps share, and the steps that passes have in
// common.
struct Block::Pass {
  const LayerShape& shape;
  kernels::cuda::Matmul& matmul;
  kernels::PackedAttention& attention;
  const LayerWeights& weights;
  Activations kept;
  TokenRun run;
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
  Rows reduced(Group group) const {
    return {kept.reduced[group], weights.groups[group].rank_sum()};
  }

  GroupProduct product(Group group) const {
    return {{matmul, shape.dtype, run.tokens, stream},
            weights.groups[group],
            space.weights[group],
            {shape.dropout, weights.dropout_keys[group], run.samples, run.angles.positions}};
  }
  void assemble(Group group) const { product(group).assemble(); }
  Rows from_row(Rows rows, std::int64_t row) const { return part_of(rows, row, 0, shape.dtype); }
  Rows keys(Rows qkv) const { return part_of(qkv, 0, shape.query_size(), shape.dtype); }
  Rows values(Rows qkv) const {
    return part_of(qkv, 0, shape.query_size() + shape.key_heads * shape.head_dim, shape.dtype);
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
  // A group's product in a first pass: reduces the input and keeps that.
  void project(Group group, Rows in, ConstRows residual, Rows out) const {
    const GroupProduct p = product(group);
    p.reduce(in);
    p.keep(in, reduced(group));
    p.apply(in, residual, weights.bias[group], out);
  }
  // In a later pass: takes what was kept.
  void project_again(Group group, Rows in, ConstRows residual, Rows out) const {
    const GroupProduct p = product(group);
    p.restore(reduced(group), in);
    p.apply(in, residual, weights.bias[group], out);
  }
  // How a group's backward pass begins: d_out's extra columns, the gradients of B.
  GroupProduct begin_backward(Group group, Rows d_out) const {
    const GroupProduct p = product(group);
    p.extend(d_out);
    p.add_b_gradient(d_out, reduced(group), weights.gradients[group]);
    return p;
  }

  template <class Body>
  void for_each_mlp_tile(const Body& body) const;
  void mlp(Rows y) const;
  void mlp_again() const;
  void mlp_backward(Rows dy) const;
  void attention_backward(Rows dy, bool recomputed, bool last) const;
};

// Calls body(pass, first row) for the tokens that go through the MLP together.
template <class Body>
void Block::Pass::for_each_mlp_tile(const Body& body) const {
  for (std::int64_t first = 0; first < run.tokens; first += space.mlp_rows) {
    Pass tile = *this;
    tile.run.tokens = std::min(space.mlp_rows, run.tokens - first);
    if (run.samples != nullptr) tile.run.samples += first;
    tile.run.angles.positions += first;
    tile.kept.middle = from_row(middle(), first).data;
    tile.kept.middle_rstd += first;
    if (kept.keeps_gate_up) tile.kept.gate_up = from_row(gate_up(), first).data;
    for (const Group group : {kGateUp, kDown}) {
      tile.kept.reduced[group] = from_row(reduced(group), first).data;
    }
    body(tile, first);
  }
}

void Block::Pass::mlp(Rows y) const {
  norm(middle(), weights.post_attention_norm, kept.middle_rstd);
  project(kGateUp, normed(), {}, gate_up());
  activate();
  project(kDown, activated(), middle(), y);
}

// Up to what backward reads.
void Block::Pass::mlp_again() const {
  norm(middle(), weights.post_attention_norm, kept.middle_rstd);
  project_again(kGateUp, normed(), {}, gate_up());
}

void Block::Pass::mlp_backward(Rows dy) const {
  const GroupProduct down = begin_backward(kDown, dy);
  down.input_gradient(dy, activated());
  activate_backward();
  down.add_a_gradient(dy, activated(), weights.gradients[kDown]);

  const GroupProduct both = begin_backward(kGateUp, gate_up());
  both.input_gradient(gate_up(), normed());
  norm_backward(middle(), weights.post_attention_norm, kept.middle_rstd, dy);
  both.add_a_gradient(gate_up(), normed(), weights.gradients[kGateUp]);
}

void Block::Pass::attention_backward(Rows dy, bool recomputed, bool last) const {
  const bool has_weights = recomputed && space.keeps_weights;
  if (!has_weights) assemble(kOut);
  const GroupProduct out = begin_backward(kOut, dy);
  out.input_gradient(dy, d_attended());
  out.add_a_gradient(dy, attended(), weights.gradients[kOut]);
  if (shape.head_norm && !recomputed) turn();
  attend_backward();
  turn_back();

  if (!has_weights) assemble(kQkv);
  const GroupProduct qkv_group = begin_backward(kQkv, d_qkv());
  if (last) {
    norm(x(), weights.input_norm, kept.input_rstd);
  } else {
    qkv_group.input_gradient(d_qkv(), normed());
    norm_backward(x(), weights.input_norm, kept.input_rstd, dy);
  }
  qkv_group.add_a_gradient(d_qkv(), normed(), weights.gradients[kQkv]);
}

Block::Block(const LayerShape& shape, kernels::cuda::Matmul& matmul,
             kernels::PackedAttention& attention)
    : shape_(shape), matmul_(matmul), attention_(attention) {}

void Block::forward(const LayerWeights& weights, const Activations& kept, const TokenRun& run,
                    const Workspace& space, void* y, kernels::Stream stream) {
  const Pass pass{shape_, matmul_, attention_, weights, kept, run, space, stream};
  pass.norm(pass.x(), weights.input_norm, kept.input_rstd);
  pass.assemble(kQkv);
  pass.project(kQkv, pass.normed(), {}, pass.qkv());
  pass.turn();
  pass.attend();
  pass.assemble(kOut);
  pass.project(kOut, pass.attended(), pass.x(), pass.middle());
  pass.assemble(kGateUp);
  pass.assemble(kDown);
  pass.for_each_mlp_tile([&](const Pass& tile, std::int64_t first) {
    tile.mlp(pass.from_row({y, shape_.hidden}, first));
  });
}

void Block::recompute(const LayerWeights& weights, const Activations& kept, const TokenRun& run,
                      const Workspace& space, bool with_attention, kernels::Stream stream) {
  const Pass pass{shape_, matmul_, attention_, weights, kept, run, space, stream};
  pass.norm(pass.x(), weights.input_norm, kept.input_rstd);
  pass.assemble(kQkv);
  pass.project_again(kQkv, pass.normed(), {}, pass.qkv());
  pass.turn();
  if (with_attention) pass.attend();
  pass.assemble(kOut);
  pass.project_again(kOut, pass.attended(), pass.x(), pass.middle());
}

void Block::backward(const LayerWeights& weights, const Activations& kept, const TokenRun& run,
                     const Workspace& space, void* gradient, bool recomputed, bool last,
                     kernels::Stream stream) {
  const Pass pass{shape_, matmul_, attention_, weights, kept, run, space, stream};
  const Rows dy{gradient, shape_.gradient_stride()};
  // Shared memory holds the last tile that went through it.
  const bool refill = !kept.keeps_gate_up && (recomputed || space.mlp_rows < run.tokens);
  pass.assemble(kGateUp);
  pass.assemble(kDown);
  pass.for_each_mlp_tile([&](const Pass& tile, std::int64_t first) {
    if (refill) tile.mlp_again();
    tile.mlp_backward(pass.from_row(dy, first));
  });
  pass.attention_backward(dy, recomputed, last);
}

}  // namespace qlora::fused
