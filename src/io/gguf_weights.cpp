// WeightSource over a GGUF file: HF names, and for architecture llama the HF order of the rows of
// q and k.

#include "io/weight_readers.h"
#include "qlora/base/error.h"
#include "qlora/base/parallel.h"
#include "qlora/io/gguf.h"
#include "qlora/io/model_config.h"
#include "qlora/io/tensor_view.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

namespace qlora::io {
namespace {

// Read with the configuration (model_config_gguf.cpp), not a weight.
constexpr std::string_view kRopeTensor = "rope_freqs.weight";

std::optional<DType> plain_type(const GgmlType& type) {
  constexpr std::pair<std::string_view, DType> kPlain[] = {
      {"F32", DType::Float32}, {"F16", DType::Float16}, {"BF16", DType::BFloat16}};
  for (const auto& [name, dtype] : kPlain) {
    if (name == type.name) return dtype;
  }
  return std::nullopt;
}

class GgufWeights final : public WeightSource {
 public:
  explicit GgufWeights(const std::filesystem::path& path);

  std::vector<std::string> names() const override { return names_; }
  bool has(std::string_view name) const override { return entries_.contains(name); }
  const WeightInfo& info(std::string_view name) const override { return entry(name).info; }
  void read(std::string_view name, DType out, void* destination, RowRange rows) const override;
  std::optional<Bnb4bitTensor> prequantized(std::string_view name) const override {
    entry(name);
    return std::nullopt;
  }
  void release(std::string_view name) const override { file_.drop(entry(name).tensor->bytes); }

 private:
  struct Entry {
    WeightInfo info;
    const GgufTensor* tensor = nullptr;
    std::int64_t permuted_head_dim = 0;  // 0: rows lie in HF order
  };

  void add(Role role, std::int64_t layer);
  void add_tensor(Role role, const std::string& name, const GgufTensor& tensor);
  void refuse_unmapped() const;
  const Entry& entry(std::string_view name) const;

  GgufFile file_;
  ModelConfig config_;
  std::vector<std::string> names_;
  std::map<std::string, Entry, std::less<>> entries_;
  std::set<const GgufTensor*> mapped_;
};

GgufWeights::GgufWeights(const std::filesystem::path& path)
    : file_(path), config_(model_config_from_gguf(file_)) {
  for (int i = 0; i < kRoleCount; ++i) {
    const auto role = static_cast<Role>(i);
    const std::int64_t layers = is_layer_role(role) ? config_.num_hidden_layers : 1;
    for (std::int64_t layer = 0; layer < layers; ++layer) add(role, layer);
  }
  refuse_unmapped();
}

void GgufWeights::add(Role role, std::int64_t layer) {
  const std::string module = module_path(config_.architecture, role, layer);
  if (module.empty()) return;
  for (const char* parameter : {".weight", ".bias"}) {
    const GgufTensor* tensor = file_.find(gguf_module_path(role, layer) + parameter);
    if (tensor != nullptr) add_tensor(role, module + parameter, *tensor);
  }
}

void GgufWeights::add_tensor(Role role, const std::string& name, const GgufTensor& tensor) {
  const std::string path = file_.path().string();
  if (!can_dequantize(*tensor.type)) {
    fail(
        "{}: tensor '{}' is {}, which is not supported; known are F32, F16, BF16, Q8_0, Q4_0, "
        "Q4_1",
        path, tensor.name, tensor.type->name);
  }
  Entry entry{{tensor.shape, plain_type(*tensor.type).value_or(DType::Float32),
               std::string(tensor.type->name), static_cast<std::int64_t>(tensor.bytes.size()),
               file_.path()},
              &tensor,
              0};
  const bool is_q_or_k = role == Role::QProj || role == Role::KProj;
  if (is_q_or_k && info_of(config_.architecture).gguf_permutes_qk) {
    const std::int64_t heads =
        role == Role::QProj ? config_.num_attention_heads : config_.num_key_value_heads;
    const std::int64_t rows = heads * config_.head_dim;
    if (tensor.shape.empty() || tensor.shape.front() != rows) {
      fail("{}: tensor '{}' has the shape {}; {} heads of {} need {} rows", path, tensor.name,
           shape_text(tensor.shape), heads, config_.head_dim, rows);
    }
    entry.permuted_head_dim = config_.head_dim;
  }
  mapped_.insert(&tensor);
  names_.push_back(name);
  entries_.emplace(name, std::move(entry));
}

void GgufWeights::refuse_unmapped() const {
  for (const GgufTensor& tensor : file_.tensors()) {
    if (tensor.name != kRopeTensor && !mapped_.contains(&tensor)) {
      fail("{}: tensor '{}' has no place in a {} model of {} layers", file_.path().string(),
           tensor.name, info_of(config_.architecture).model_type, config_.num_hidden_layers);
    }
  }
}

const GgufWeights::Entry& GgufWeights::entry(std::string_view name) const {
  const auto it = entries_.find(name);
  if (it == entries_.end()) fail_missing(name, names_, file_.path().string());
  return it->second;
}

// HF orders a head's rows [2, head_dim/2] (the halves that rotate together), GGUF's llama
// [head_dim/2, 2] (pairs side by side): HF row j*head_dim/2 + i is GGUF row 2*i + j.
std::int64_t gguf_row(std::int64_t hf_row, std::int64_t head_dim) {
  const std::int64_t half = head_dim / 2;
  const std::int64_t in_head = hf_row % head_dim;
  return hf_row - in_head + 2 * (in_head % half) + in_head / half;
}

void GgufWeights::read(std::string_view name, DType out, void* destination, RowRange rows) const {
  const Entry& found = entry(name);
  const GgmlType& type = *found.tensor->type;
  const StoredElements stored{found.tensor->bytes.data(), type.block_elements, type.block_bytes,
                              plain_type(type),
                              [&type](const std::byte* from, std::int64_t n, float* to) {
                                dequantize_gguf(type, from, n, to);
                              }};
  const RowRun run = check_read(found.info, name, stored, out, rows);
  auto* target = static_cast<std::byte*>(destination);
  if (found.permuted_head_dim == 0) {
    convert_elements_parallel(stored, run.begin * run.row_elements, run.count * run.row_elements,
                              out, target);
  } else {
    constexpr std::int64_t kElementsPerThread = 1 << 16;
    const std::int64_t row_bytes = run.row_elements * static_cast<std::int64_t>(size_of(out));
    const std::int64_t grain = kElementsPerThread / std::max<std::int64_t>(run.row_elements, 1) + 1;
    parallel_for(run.count, grain, [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t row = first; row < last; ++row) {
        const std::int64_t source = gguf_row(run.begin + row, found.permuted_head_dim);
        convert_elements(stored, source * run.row_elements, run.row_elements, out,
                         target + row * row_bytes);
      }
    });
  }
  release(name);
}

}  // namespace

std::unique_ptr<WeightSource> open_gguf_weights(const std::filesystem::path& file) {
  return std::make_unique<GgufWeights>(file);
}

}  // namespace qlora::io
