#include "qlora/run/session.h"

#include "qlora/base/log.h"
#include "qlora/base/narrow.h"
#include "qlora/base/text_util.h"
#include "qlora/models/adapters.h"
#include "qlora/models/load.h"
#include "qlora/tensor/bridge.h"
#include "qlora/tensor/device.h"
#include "run/host_memory.h"

namespace qlora::run {
namespace {

DType activation_dtype(const SessionOptions& options, const std::optional<TrainingBase>& trained,
                       const io::ModelConfig& config, c10::Device device) {
  if (options.dtype) return *options.dtype;
  if (device.is_cpu()) return DType::Float32;
  if (trained) return trained->activation_dtype;
  return config.dtype == DType::Float16 ? DType::Float16 : DType::BFloat16;
}

nn::Linear unpacked(nn::Linear& packed, at::ScalarType dtype) {
  nn::Linear dense(packed.dense_weight(dtype), packed.bias());
  dense.adapter() = std::move(packed.adapter());
  return dense;
}

}  // namespace

Session open_session(const SessionOptions& options) {
  const c10::Device device = tensor::choose_device(options.device);
  const io::ModelConfig config = io::read_model_config(options.model);
  std::optional<TrainingBase> trained;
  if (!options.adapter.empty()) {
    io::read_adapter_config(options.adapter);  // says what is wrong before the model is loaded
    trained = read_training_base(options.adapter);
  }
  const DType dtype = activation_dtype(options, trained, config, device);
  Session session;
  session.tokenizer = text::load_tokenizer(options.model);
  if (!options.adapter.empty()) session.chat_template = read_trained_template(options.adapter);
  if (session.chat_template.empty()) session.chat_template = session.tokenizer->chat_template();
  session.stop_ids = session.tokenizer->stop_ids();
  for (const std::int64_t id : config.stop_token_ids) {
    session.stop_ids.push_back(narrow<std::int32_t>(id));
  }
  session.model = models::load(options.model,
                               {.quantization = quantization_under(trained, options.base_weights),
                                .dtype = dtype,
                                .device = device});
  if (!options.adapter.empty()) models::load_adapter(*session.model, options.adapter);
  if (device.is_cpu()) unpack_weights(*session.model, dtype);
  return session;
}

void unpack_weights(models::CausalLM& model, DType dtype) {
  std::int64_t dense_bytes = 0;
  const auto count = [&](const std::string&, nn::Linear& linear) {
    if (!linear.quantized()) return;
    dense_bytes += linear.quantized()->element_count() * static_cast<std::int64_t>(size_of(dtype));
  };
  model.visit({.linear = count, .embedding = {}, .norm = {}});
  if (dense_bytes == 0) return;
  // A tenth is left for activations and for whoever else is on the machine.
  const std::int64_t available = available_host_memory();
  if (dense_bytes > available / 10 * 9) {
    log::warn(
        "the unpacked weights need {}, {} are free: the weights stay packed and every token "
        "takes longer",
        human_bytes(dense_bytes), human_bytes(available));
    return;
  }
  const auto unpack = [&](const std::string&, nn::Linear& linear) {
    if (linear.quantized()) linear = unpacked(linear, tensor::scalar_type(dtype));
  };
  model.visit({.linear = unpack, .embedding = {}, .norm = {}});
}

}  // namespace qlora::run
