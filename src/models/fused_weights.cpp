#include "fused_weights.h"

#include "qlora/tensor/bridge.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/zeros.h>

#include <algorithm>

namespace qlora::models {
namespace {

using Members = std::vector<nn::Linear*>;

// The linear layers of each group, in the order of fused::Group.
std::array<Members, fused::kGroups> groups_of(LlamaLayer& layer) {
  LlamaAttention& a = layer.attention;
  return {{{&a.q_proj, &a.k_proj, &a.v_proj},
           {&a.o_proj},
           {&layer.mlp.gate_proj, &layer.mlp.up_proj},
           {&layer.mlp.down_proj}}};
}

// A group's sizes, without its data.
kernels::AugmentedGroup sizes_of(const Members& members) {
  kernels::AugmentedGroup group;
  group.in = members.front()->in_features();
  group.count = members.size();
  for (std::size_t i = 0; i < members.size(); ++i) {
    group.parts[i].out = members[i]->out_features();
    const auto& adapter = members[i]->adapter();
    group.parts[i].rank = adapter ? adapter->a.size(0) : 0;
  }
  return group;
}

void point_to_weight(nn::Linear& linear, kernels::AugmentedPart& part) {
  if (const auto& quantized = linear.quantized()) {
    part.type = quantized->type;
    part.packed = quantized->packed.const_data_ptr<std::uint8_t>();
    part.absmax = quantized->scales();
    part.block = quantized->block;
  }
}

}  // namespace

fused::DecoderShape decoder_shape(Llama& model) {
  const io::ModelConfig& config = model.config();
  std::vector<LlamaLayer>& layers = model.parts().layers;
  fused::DecoderShape shape;
  shape.layer = {.hidden = config.hidden_size,
                 .query_heads = config.num_attention_heads,
                 .key_heads = config.num_key_value_heads,
                 .head_dim = config.head_dim,
                 .intermediate = config.intermediate_size,
                 .norm_eps = static_cast<float>(config.rms_norm_eps),
                 .head_norm = layers.front().attention.q_norm.defined(),
                 .dtype = tensor::dtype_of(model.dtype())};
  shape.layers = static_cast<std::int64_t>(layers.size());
  shape.vocabulary = model.parts().embedding.weight().size(0);
  for (LlamaLayer& layer : layers) {
    const auto groups = groups_of(layer);
    for (std::size_t g = 0; g < fused::kGroups; ++g) {
      const kernels::AugmentedGroup group = sizes_of(groups[g]);
      shape.layer.extra[g] = std::max(shape.layer.extra[g], group.extra());
      shape.layer.rank_sum[g] = std::max(shape.layer.rank_sum[g], group.rank_sum());
      shape.weight_elements[g] = std::max(shape.weight_elements[g], group.element_count());
      for (nn::Linear* member : groups[g]) {
        if (member->adapter())
          shape.layer.dropout = static_cast<float>(member->adapter()->dropout());
      }
    }
  }
  return shape;
}

FusedWeights::FusedWeights(Llama& model, std::int64_t positions, std::uint64_t seed)
    : model_(model), dtype_(model.dtype()), seed_(seed) {
  LlamaParts& parts = model.parts();
  view_.embedding = held(parts.embedding.weight());
  view_.final_norm = held(parts.final_norm.weight());
  view_.head = held(*model.plain_head_weight());
  const nn::RopeTable::Tables tables = model.rope().tables(positions);
  held_.insert(held_.end(), {tables.cos, tables.sin});
  view_.cos = tables.cos.const_data_ptr<float>();
  view_.sin = tables.sin.const_data_ptr<float>();
  for (LlamaLayer& layer : parts.layers) add_layer(layer);
  place_gradients();
}

// The tensor's data in the activations' element type, alive as long as this object.
const void* FusedWeights::held(const at::Tensor& tensor) {
  if (!tensor.defined()) return nullptr;
  held_.push_back(tensor.detach().to(dtype_).contiguous());
  return held_.back().const_data_ptr();
}

void FusedWeights::add_layer(LlamaLayer& layer) {
  fused::LayerWeights weights;
  weights.input_norm = held(layer.input_norm.weight());
  weights.post_attention_norm = held(layer.post_attention_norm.weight());
  weights.q_norm = held(layer.attention.q_norm.weight());
  weights.k_norm = held(layer.attention.k_norm.weight());
  const auto groups = groups_of(layer);
  for (std::size_t g = 0; g < fused::kGroups; ++g) add_group(weights, g, groups[g]);
  view_.layers.push_back(weights);
}

void FusedWeights::add_group(fused::LayerWeights& layer, std::size_t group,
                             const Members& members) {
  kernels::AugmentedGroup& target = layer.groups[group];
  target = sizes_of(members);
  std::vector<at::Tensor> biases;
  bool biased = false;
  for (std::size_t i = 0; i < members.size(); ++i) {
    nn::Linear& member = *members[i];
    kernels::AugmentedPart& part = target.parts[i];
    point_to_weight(member, part);
    if (!member.quantized()) part.dense = held(member.weight());
    if (member.adapter()) {
      add_adapter(*member.adapter(), part);
      layer.dropout_keys[group][i] =
          kernels::philox_key({.seed = seed_, .module = member.adapter()->module_key()});
    }
    biased = biased || member.bias().defined();
    const std::int64_t padded = target.row_of(i + 1) - target.row_of(i);
    biases.push_back(at::zeros({padded}, at::TensorOptions(model_.device()).dtype(dtype_)));
    if (member.bias().defined()) biases.back().slice(0, 0, part.out).copy_(member.bias());
  }
  if (biased) layer.bias[group] = held(at::cat(biases));
}

void FusedWeights::add_adapter(nn::LoraAdapter& source, kernels::AugmentedPart& part) {
  const at::NoGradGuard no_grad;
  Adapter adapter{.source = &source,
                  .a = source.a.to(dtype_, /*non_blocking=*/false, /*copy=*/true),
                  .scaled_b = (source.b * source.scaling()).to(dtype_)};
  part.a = adapter.a.const_data_ptr();
  part.scaled_b = adapter.scaled_b.const_data_ptr();
  adapters_.push_back(std::move(adapter));
}

// One buffer; a group's A gradients lie as its extra rows do, since one product makes them all.
void FusedWeights::place_gradients() {
  std::int64_t total = 0;
  for (const fused::LayerWeights& layer : view_.layers) {
    for (const kernels::AugmentedGroup& group : layer.groups) total += group.rank_sum() * group.in;
  }
  for (const Adapter& adapter : adapters_) total += adapter.source->b.numel();
  gradients_ = at::zeros({total}, at::TensorOptions(model_.device()).dtype(at::kFloat));
  std::int64_t used = 0;
  const auto take = [&](std::int64_t rows, std::int64_t columns) {
    used += rows * columns;
    return gradients_.slice(0, used - rows * columns, used).view({rows, columns});
  };
  auto adapter = adapters_.begin();
  for (fused::LayerWeights& layer : view_.layers) {
    for (std::size_t g = 0; g < fused::kGroups; ++g) {
      const kernels::AugmentedGroup& group = layer.groups[g];
      fused::GroupGradients& gradients = layer.gradients[g];
      const at::Tensor a = take(group.rank_sum(), group.in);
      gradients.a = a.mutable_data_ptr<float>();
      for (std::size_t i = 0; i < group.count; ++i) {
        const kernels::AugmentedPart& part = group.parts[i];
        if (part.rank == 0) continue;
        nn::LoraAdapter& source = *(adapter++)->source;
        source.a.mutable_grad() = a.narrow(0, group.rank_before(i), part.rank);
        source.b.mutable_grad() = take(part.out, part.rank);
        gradients.b[i] = source.b.grad().mutable_data_ptr<float>();
        gradients.scaling[i] = static_cast<float>(source.scaling());
      }
    }
  }
}

std::vector<tensor::CopyTarget> FusedWeights::copies() const {
  std::vector<tensor::CopyTarget> result;
  for (const Adapter& adapter : adapters_) {
    const auto scaling = static_cast<float>(adapter.source->scaling());
    result.push_back({adapter.source->a, adapter.a, 1.0f});
    result.push_back({adapter.source->b, adapter.scaled_b, scaling});
  }
  return result;
}

}  // namespace qlora::models
