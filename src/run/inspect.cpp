#include "qlora/run/inspect.h"

#include "qlora/base/directory.h"
#include "qlora/base/narrow.h"
#include "qlora/io/gguf.h"
#include "qlora/io/peft.h"
#include "qlora/io/safetensors.h"
#include "qlora/kernels/types.h"
#include "qlora/run/model_tensors.h"
#include "qlora/tensor/quantization_config.h"

#include <algorithm>

namespace qlora::run {
namespace fs = std::filesystem;
namespace {

Json facts_of(const char* kind, const fs::path& path) {
  return {{"kind", kind}, {"path", path.string()}};
}

Json tensor_facts(const std::string& name, std::string_view type,
                  const std::vector<std::int64_t>& shape, std::int64_t bytes) {
  return {{"name", name}, {"type", std::string(type)}, {"shape", shape}, {"bytes", bytes}};
}

void set_tensors(Json& facts, Json tensors) {
  std::int64_t bytes = 0;
  for (const Json& tensor : tensors) bytes += tensor.at("bytes").get<std::int64_t>();
  facts["tensor_count"] = tensors.size();
  facts["bytes"] = bytes;
  facts["tensors"] = std::move(tensors);
}

Json safetensors_facts(const io::SafetensorsFile& file) {
  Json tensors = Json::array();
  for (const io::TensorView& tensor : file.tensors()) {
    tensors.push_back(tensor_facts(tensor.name, name_of(tensor.dtype), tensor.shape,
                                   static_cast<std::int64_t>(tensor.bytes.size())));
  }
  return tensors;
}

Json structure(const io::ModelConfig& config, const std::vector<ModelTensor>& tensors) {
  std::int64_t parameters = 0;
  std::int64_t in_linears = 0;
  for (const ModelTensor& tensor : tensors) {
    parameters += tensor.elements();
    if (tensor.is_linear_weight()) in_linears += tensor.elements();
  }
  return {{"architecture", std::string(io::info_of(config.architecture).hf_class)},
          {"parameters", parameters},
          {"parameters_in_linears", in_linears},
          {"layers", config.num_hidden_layers},
          {"hidden_size", config.hidden_size},
          {"intermediate_size", config.intermediate_size},
          {"attention_heads", config.num_attention_heads},
          {"key_value_heads", config.num_key_value_heads},
          {"head_dim", config.head_dim},
          {"vocab_size", config.vocab_size},
          {"max_position_embeddings", config.max_position_embeddings},
          {"tied_embeddings", config.tie_word_embeddings}};
}

std::int64_t packed_bytes(std::int64_t elements, bool nested) {
  const std::int64_t blocks = div_up(elements, kernels::kDefaultBlock);
  const std::int64_t codes = div_up(elements, std::int64_t{2});
  if (!nested) return codes + 4 * blocks;
  constexpr std::int64_t kMapBytes = 256 * 4;
  return codes + blocks + 4 * div_up(blocks, kernels::kNestedBlock) + kMapBytes;
}

// Bytes of the weights alone, by how they are loaded; what is not quantized has 16 bits.
Json memory_facts(const std::vector<ModelTensor>& tensors) {
  const tensor::QuantizationConfig defaults;
  std::int64_t dense = 0;
  std::int64_t packed = 0;
  std::int64_t nested = 0;
  for (const ModelTensor& tensor : tensors) {
    const std::int64_t bytes = 2 * tensor.elements();
    const bool quantized =
        tensor.is_linear_weight() && !io::matches(defaults.llm_int8_skip_modules, tensor.module);
    dense += bytes;
    packed += quantized ? packed_bytes(tensor.elements(), false) : bytes;
    nested += quantized ? packed_bytes(tensor.elements(), true) : bytes;
  }
  return {{"float32", 2 * dense},
          {"float16_or_bfloat16", dense},
          {"nf4", packed},
          {"nf4_double_quant", nested}};
}

// A file may hold more than this project can run, so an unknown model is no error here.
void set_model(Json& facts, const fs::path& path) {
  try {
    const io::ModelConfig config = io::read_model_config(path);
    const std::vector<ModelTensor> tensors = model_tensors(config);
    facts["model"] = structure(config, tensors);
    facts["memory"] = memory_facts(tensors);
  } catch (const Error& error) {
    facts["model_problem"] = error.what();
  }
}

Json inspect_gguf(const fs::path& path) {
  Json facts = facts_of("GGUF file", path);
  const io::GgufFile file(path);
  Json metadata = Json::object();
  for (const std::string& key : file.keys()) metadata[key] = file.describe(key);
  facts["metadata"] = std::move(metadata);
  set_model(facts, path);
  Json tensors = Json::array();
  for (const io::GgufTensor& tensor : file.tensors()) {
    tensors.push_back(tensor_facts(tensor.name, tensor.type->name, tensor.shape,
                                   static_cast<std::int64_t>(tensor.bytes.size())));
  }
  set_tensors(facts, std::move(tensors));
  return facts;
}

Json inspect_safetensors(const fs::path& path) {
  Json facts = facts_of("safetensors file", path);
  const io::SafetensorsFile file(path);
  if (!file.metadata().empty()) facts["metadata"] = file.metadata();
  set_tensors(facts, safetensors_facts(file));
  return facts;
}

Json inspect_model(const fs::path& path) {
  Json facts = facts_of("model directory", path);
  const fs::path config_path = path / "config.json";
  const Json config = read_json(config_path);
  if (config.contains("quantization_config")) {
    facts["quantization"] = config.at("quantization_config");
  }
  set_model(facts, path);
  const auto source = io::open_weights(path);
  Json tensors = Json::array();
  for (const std::string& name : source->names()) {
    const io::WeightInfo& info = source->info(name);
    tensors.push_back(tensor_facts(name, info.stored_as, info.shape, info.stored_bytes));
  }
  set_tensors(facts, std::move(tensors));
  return facts;
}

Json inspect_adapter(const fs::path& path) {
  const bool checkpoint = fs::exists(path / "trainer_state.json");
  Json facts = facts_of(checkpoint ? "training checkpoint" : "adapter directory", path);
  const io::AdapterConfig config = io::read_adapter_config(path);
  const Json stored = read_json(path / io::kAdapterConfigName);
  facts["adapter"] = {{"base_model", config.base_model_name_or_path},
                      {"r", config.r},
                      {"lora_alpha", config.lora_alpha},
                      {"use_rslora", config.use_rslora},
                      {"lora_dropout", config.lora_dropout},
                      {"target_modules", stored.value("target_modules", Json())},
                      {"modules_to_save", config.modules_to_save}};
  for (const char* name : {"training_base", "trainer_state"}) {
    const fs::path file = path / (std::string(name) + ".json");
    if (fs::exists(file)) facts[name] = read_json(file);
  }
  set_tensors(facts, safetensors_facts(io::SafetensorsFile(path / io::kAdapterWeightsName)));
  return facts;
}

Json inspect_directory(const fs::path& path) {
  if (fs::exists(path / io::kAdapterConfigName)) return inspect_adapter(path);
  if (fs::exists(path / "config.json")) return inspect_model(path);
  std::string inside;
  for (const fs::path& entry : directory_entries(path)) {
    const std::string name = entry.filename().string();
    if (fs::exists(entry / io::kAdapterConfigName) || name.ends_with(".gguf") ||
        name.ends_with(".safetensors")) {
      inside = std::max(inside, name);
    }
  }
  if (!inside.empty()) inside = fmt::format("; did you mean {} in it?", inside);
  fail("{}: neither a model (config.json) nor an adapter ({}){}", path.string(),
       io::kAdapterConfigName, inside);
}

}  // namespace

Json inspect(const fs::path& path) {
  if (fs::is_directory(path)) return inspect_directory(path);
  if (!fs::exists(path)) fail("{}: no such file or directory", path.string());
  return io::is_gguf(path) ? inspect_gguf(path) : inspect_safetensors(path);
}

}  // namespace qlora::run
