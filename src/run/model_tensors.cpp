#include "qlora/run/model_tensors.h"

#include "qlora/io/tensor_view.h"

namespace qlora::run {
namespace {

using io::Role;

class Lister {
 public:
  explicit Lister(const io::ModelConfig& config) : c_(config) {}

  std::vector<ModelTensor> list() {
    add(Role::Embedding, {c_.vocab_size, c_.hidden_size});
    for (layer_ = 0; layer_ < c_.num_hidden_layers; ++layer_) list_layer();
    layer_ = 0;
    add(Role::FinalNorm, {c_.hidden_size});
    if (!c_.tie_word_embeddings) add(Role::LmHead, {c_.vocab_size, c_.hidden_size});
    return std::move(tensors_);
  }

 private:
  void list_layer() {
    const std::int64_t d = c_.hidden_size;
    const std::int64_t q_width = c_.num_attention_heads * c_.head_dim;
    const std::int64_t kv_width = c_.num_key_value_heads * c_.head_dim;
    add(Role::InputNorm, {d});
    add(Role::QProj, {q_width, d}, c_.qkv_bias);
    add(Role::KProj, {kv_width, d}, c_.qkv_bias);
    add(Role::VProj, {kv_width, d}, c_.qkv_bias);
    if (c_.qk_norm) {
      add(Role::QNorm, {c_.head_dim});
      add(Role::KNorm, {c_.head_dim});
    }
    add(Role::OProj, {d, q_width}, c_.o_bias);
    add(Role::PostAttentionNorm, {d});
    add(Role::GateProj, {c_.intermediate_size, d}, c_.mlp_bias);
    add(Role::UpProj, {c_.intermediate_size, d}, c_.mlp_bias);
    add(Role::DownProj, {d, c_.intermediate_size}, c_.mlp_bias);
  }

  void add(Role role, std::vector<std::int64_t> shape, bool bias = false) {
    const std::string module = io::module_path(c_.architecture, role, layer_);
    const std::int64_t out = shape.front();
    tensors_.push_back({role, module, "weight", std::move(shape)});
    if (bias) tensors_.push_back({role, module, "bias", {out}});
  }

  const io::ModelConfig& c_;
  std::int64_t layer_ = 0;
  std::vector<ModelTensor> tensors_;
};

}  // namespace

std::int64_t ModelTensor::elements() const { return io::element_count(shape); }

bool ModelTensor::is_linear_weight() const { return shape.size() == 2 && role != Role::Embedding; }

std::vector<ModelTensor> model_tensors(const io::ModelConfig& config) {
  return Lister(config).list();
}

std::vector<ModelTensor> model_tensors(const io::ModelConfig& config,
                                       const io::WeightSource& source) {
  std::vector<ModelTensor> tensors = model_tensors(config);
  for (const ModelTensor& tensor : tensors) io::expect_shape(source, tensor.name(), tensor.shape);
  return tensors;
}

}  // namespace qlora::run
