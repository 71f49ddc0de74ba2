#include "qlora/models/adapters.h"

#include "qlora/base/error.h"
#include "qlora/base/file.h"
#include "qlora/base/text_util.h"
#include "qlora/io/safetensors.h"
#include "qlora/tensor/bridge.h"
#include "qlora/tensor/tensor_file.h"

#include <algorithm>
#include <set>
#include <utility>

namespace qlora::models {
namespace {

using io::AdapterPart;
using tensor::Parameter;

io::ModulePattern to_pattern(const StringOrList& names) {
  if (const auto* list = std::get_if<std::vector<std::string>>(&names)) return *list;
  return std::get<std::string>(names);
}

std::string_view init_name(nn::LoraInit init) { return enum_name(init); }

nn::LoraInit init_from_name(const std::string& name) {
  for (const auto& known : enum_names(nn::LoraInit{})) {
    if (known.name == name) return known.value;
  }
  // How A and B were drawn no longer matters once their weights are loaded.
  return nn::LoraInit::Kaiming;
}

std::string last_part(const std::string& path) { return path.substr(path.rfind('.') + 1); }

// The distinct last parts of the model's linear paths, for messages.
std::string linear_names(CausalLM& model) {
  std::set<std::string> names;
  model.visit(
      {.linear = [&](const std::string& path, nn::Linear&) { names.insert(last_part(path)); },
       .embedding = {},
       .norm = {}});
  return join(std::vector<std::string>(names.begin(), names.end()));
}

nn::LoraOptions options_of(const io::AdapterConfig& config, const std::string& path, DType dtype) {
  // scaling_of knows every rule (patterns, rslora); as alpha / 1 it passes through unchanged.
  return {.rank = config.rank_of(path),
          .scaling = config.scaling_of(path),
          .dropout = config.lora_dropout,
          .init = init_from_name(config.init_lora_weights),
          .dtype = tensor::scalar_type(dtype)};
}

// Makes what modules_to_save names trainable; every name must mean something.
void train_modules_fully(CausalLM& model, const std::vector<std::string>& names) {
  std::set<std::string> unused(names.begin(), names.end());
  const auto wanted = [&](const std::string& path) {
    for (const std::string& name : names) {
      if (!io::matches(io::ModulePattern(std::vector<std::string>{name}), path)) continue;
      unused.erase(name);
      return true;
    }
    return false;
  };
  const auto train = [&](const std::string& path, auto& module) {
    if (wanted(path)) module.train_fully();
  };
  model.visit({.linear = [&](const std::string& path, nn::Linear& m) { train(path, m); },
               .embedding =
                   [&](const std::string& path, nn::Embedding& m) {
                     train(path, m);
                     if (m.weight().requires_grad() && m.weight().device() != model.device()) {
                       fail(
                           "lora.modules_to_save: '{}' stays on the host and cannot be trained "
                           "there; unset training.embedding_offloading",
                           path);
                     }
                   },
               .norm = [&](const std::string& path, nn::RmsNorm& m) { train(path, m); }});
  if (unused.empty()) return;
  const bool tied_head = model.config().tie_word_embeddings && unused.contains("lm_head");
  fail("lora.modules_to_save: this model has no module '{}'{}", *unused.begin(),
       tied_head ? "; its output projection is tied to the embedding: name the embedding instead"
                 : "");
}

void collect(std::vector<Parameter>& out, const io::AdapterTensorName& name,
             const at::Tensor& value, bool decay) {
  if (!value.defined() || !value.requires_grad()) return;
  out.push_back({io::adapter_tensor_name(name), value, decay});
}

void count_tensor(ParameterCount& count, const at::Tensor& tensor, c10::Device device) {
  if (!tensor.defined()) return;
  count.total += tensor.numel();
  if (tensor.requires_grad()) count.trainable += tensor.numel();
  if (tensor.device() == device) count.weight_bytes += static_cast<std::int64_t>(tensor.nbytes());
}

void fill_parameter(const Parameter& parameter, const io::SafetensorsFile& file) {
  const io::TensorView* stored = file.find(parameter.name);
  if (stored == nullptr) {
    fail("{}: tensor '{}' is missing; the adapter does not fit this model or these settings",
         file.path().string(), parameter.name);
  }
  if (at::IntArrayRef(stored->shape) != parameter.value.sizes()) {
    fail("{}: tensor '{}' has shape {}, expected {}", file.path().string(), parameter.name,
         io::shape_text(stored->shape), io::shape_text(parameter.value.sizes()));
  }
  const at::NoGradGuard no_grad;
  parameter.value.copy_(tensor::to_tensor(*stored));
}

}  // namespace

io::AdapterConfig to_adapter_config(const nn::LoraConfig& config, const std::string& base_model) {
  io::AdapterConfig result;
  result.r = config.r;
  result.lora_alpha = static_cast<double>(config.lora_alpha);
  result.lora_dropout = config.lora_dropout;
  result.use_rslora = config.use_rslora;
  result.target_modules = to_pattern(config.target_modules);
  if (config.exclude_modules) result.exclude_modules = to_pattern(*config.exclude_modules);
  result.modules_to_save = config.modules_to_save;
  result.init_lora_weights = init_name(config.init_lora_weights);
  result.bias = config.bias;
  result.task_type = config.task_type;
  result.base_model_name_or_path = base_model;
  return result;
}

void attach_lora(CausalLM& model, const io::AdapterConfig& config, DType dtype,
                 std::uint64_t seed) {
  const std::string head = io::module_path(model.config().architecture, io::Role::LmHead);
  std::int64_t attached = 0;
  const auto attach = [&](const std::string& path, nn::Linear& linear) {
    if (!io::is_target(config, path, /*all_linear_member=*/path != head)) return;
    linear.adapter().emplace(linear.in_features(), linear.out_features(),
                             options_of(config, path, dtype), path, seed, linear.device());
    ++attached;
  };
  model.visit({.linear = attach, .embedding = {}, .norm = {}});
  if (attached == 0) {
    fail("lora.target_modules: matches none of this model's linear layers; they are called {}",
         linear_names(model));
  }
  train_modules_fully(model, config.modules_to_save);
}

std::vector<Parameter> trainable_parameters(CausalLM& model) {
  std::vector<Parameter> result;
  const auto saved = [&](const std::string& path, const char* name, const at::Tensor& value,
                         bool decay) {
    collect(result, {path, AdapterPart::Saved, name}, value, decay);
  };
  const auto linear = [&](const std::string& path, nn::Linear& module) {
    saved(path, "weight", module.weight(), true);
    saved(path, "bias", module.bias(), false);
    if (!module.adapter()) return;
    collect(result, {path, AdapterPart::LoraA, ""}, module.adapter()->a, true);
    collect(result, {path, AdapterPart::LoraB, ""}, module.adapter()->b, true);
  };
  model.visit({.linear = linear,
               .embedding = [&](const std::string& path,
                                nn::Embedding& m) { saved(path, "weight", m.weight(), true); },
               .norm = [&](const std::string& path,
                           nn::RmsNorm& m) { saved(path, "weight", m.weight(), false); }});
  return result;
}

ParameterCount count_parameters(CausalLM& model) {
  ParameterCount count;
  const auto add = [&](const at::Tensor& tensor) { count_tensor(count, tensor, model.device()); };
  const auto linear = [&](const std::string&, nn::Linear& module) {
    if (module.quantized()) {
      count.total += module.quantized()->element_count();
      count.weight_bytes += module.quantized()->byte_count();
    }
    add(module.weight());
    add(module.bias());
    if (!module.adapter()) return;
    add(module.adapter()->a);
    add(module.adapter()->b);
  };
  const auto weight = [&](const std::string&, auto& module) { add(module.weight()); };
  model.visit({.linear = linear, .embedding = weight, .norm = weight});
  return count;
}

void save_adapter(CausalLM& model, io::AdapterConfig config,
                  const std::filesystem::path& directory) {
  model.visit({.linear = {},
               .embedding =
                   [&](const std::string&, nn::Embedding& embedding) {
                     config.ensure_weight_tying =
                         model.config().tie_word_embeddings && embedding.weight().requires_grad();
                   },
               .norm = {}});
  tensor::write_tensors(directory / io::kAdapterWeightsName, trainable_parameters(model));
  write_text(directory / io::kAdapterConfigName, io::adapter_config_text(config));
}

io::AdapterConfig load_adapter(CausalLM& model, const std::filesystem::path& directory,
                               DType dtype) {
  const io::AdapterConfig config = io::read_adapter_config(directory);
  attach_lora(model, config, dtype, /*seed=*/0);
  load_adapter_weights(model, directory);
  return config;
}

void load_adapter_weights(CausalLM& model, const std::filesystem::path& directory) {
  const io::SafetensorsFile file(directory / io::kAdapterWeightsName);
  const auto parameters = trainable_parameters(model);
  for (const auto& parameter : parameters) fill_parameter(parameter, file);
  for (const auto& stored : file.tensors()) {
    const bool known = std::any_of(parameters.begin(), parameters.end(),
                                   [&](const auto& p) { return p.name == stored.name; });
    if (!known) {
      fail("{}: tensor '{}' has no place in this model", file.path().string(), stored.name);
    }
  }
}

}  // namespace qlora::models
