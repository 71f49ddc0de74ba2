#include "qlora/train/evaluate.h"

#include "qlora/train/device_batch.h"

#include <cmath>

namespace qlora::train {

EvaluationResult evaluate(models::CausalLM& model, const data::BatchPlan& plan) {
  const at::NoGradGuard no_grad;
  const nn::ForwardContext context;
  EvaluationResult result;
  double sum = 0;
  for (std::int64_t i = 0; i < plan.batches_per_epoch(); ++i) {
    const data::Batch batch = plan.get(0, i);
    const DeviceBatch inputs = to_device(batch, /*epoch=*/0, model.device());
    const at::Tensor hidden = model.hidden_states(inputs.ids, context);
    sum += model.loss_sum(hidden, inputs.labels, context).item<double>();
    result.labels += batch.label_count;
  }
  result.loss = sum / static_cast<double>(result.labels);
  result.perplexity = std::exp(result.loss);
  return result;
}

}  // namespace qlora::train
