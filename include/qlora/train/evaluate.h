#pragma once
// Token-weighted loss over a data set.

#include "qlora/data/batch_plan.h"
#include "qlora/models/causal_lm.h"

#include <cstdint>

namespace qlora::train {

struct EvaluationResult {
  double loss = 0;        // mean over all labelled tokens
  double perplexity = 1;  // exp(loss)
  std::int64_t labels = 0;
};

// One pass in order, without dropout. Never holds more logits than a chunk of rows.
EvaluationResult evaluate(models::CausalLM& model, const data::BatchPlan& plan);

}  // namespace qlora::train
