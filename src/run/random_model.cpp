#include "qlora/run/random_model.h"

#include "qlora/base/file.h"
#include "qlora/base/json.h"
#include "qlora/base/parallel.h"
#include "qlora/base/random.h"
#include "qlora/io/hf_checkpoint.h"
#include "qlora/run/model_tensors.h"
#include "qlora/run/output_directory.h"
#include "qlora/tensor/bridge.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>

namespace qlora::run {
namespace {

at::Tensor normal_tensor(const ModelTensor& tensor, std::uint64_t seed, float deviation) {
  const RandomStream stream(seed, tensor.name());
  at::Tensor values = at::empty(tensor.shape, at::kFloat);
  float* out = values.mutable_data_ptr<float>();
  constexpr std::int64_t kGrain = 1 << 16;
  parallel_for(values.numel(), kGrain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      out[i] = deviation * stream.normal(static_cast<std::uint64_t>(i));
    }
  });
  return values;
}

at::Tensor initial(const ModelTensor& tensor, std::uint64_t seed, float deviation) {
  if (tensor.parameter == "bias") return at::zeros(tensor.shape, at::kFloat);
  if (tensor.shape.size() == 1) return at::ones(tensor.shape, at::kFloat);
  return normal_tensor(tensor, seed, deviation);
}

}  // namespace

std::int64_t make_random_model(const RandomModelOptions& options) {
  std::vector<std::filesystem::path> inputs{options.config};
  if (!options.tokenizer.empty()) inputs.emplace_back(options.tokenizer);
  const auto target = check_output(options.output, options.overwrite, inputs);
  const Json json = read_json(options.config);
  const io::ModelConfig config = io::model_config_from_json(json, options.config);
  const auto deviation =
      static_cast<float>(json_get_or<double>(json, "initializer_range", 0.02, options.config));

  AtomicDirectory directory(target);
  write_config(config, options.dtype, std::nullopt, directory.path());
  const std::vector<ModelTensor> tensors = model_tensors(config);
  std::vector<io::TensorSpec> specs;
  std::int64_t bytes = 0;
  for (const ModelTensor& tensor : tensors) {
    specs.push_back({tensor.name(), options.dtype, tensor.shape});
    bytes += io::byte_count(specs.back());
  }
  io::HfCheckpointWriter writer(directory.path(), std::move(specs));
  for (const ModelTensor& tensor : tensors) {
    const at::Tensor values = initial(tensor, static_cast<std::uint64_t>(options.seed), deviation)
                                  .to(tensor::scalar_type(options.dtype));
    writer.write(tensor.name(), tensor::bytes_of(values));
  }
  writer.finish();
  if (!options.tokenizer.empty()) copy_tokenizer(options.tokenizer, directory.path());
  directory.commit();
  return bytes;
}

}  // namespace qlora::run
