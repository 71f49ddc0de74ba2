#pragma once
// Token by token from a model, with a cache of keys and values.

#include "qlora/base/constraints.h"
#include "qlora/models/causal_lm.h"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

namespace qlora::run {

using TokenIds = std::vector<std::int32_t>;

// Names and meaning are those of transformers' GenerationConfig. Differences: temperature 0 (the
// default) is greedy, top_k is off by default, and sampling is keyed by a seed.
struct GenerationConfig {
  std::int64_t max_new_tokens = 256;
  double temperature = 0;
  std::int64_t top_k = 0;
  double top_p = 1;
  std::int64_t seed = 42;

  template <class V>
  void visit(V&& v) {
    v.field("max_new_tokens", max_new_tokens, "longest answer in tokens", at_least(1));
    v.field("temperature", temperature, "0 takes the likeliest token; above, tokens are drawn",
            at_least(0));
    v.field("top_k", top_k, "draw among this many likeliest tokens; 0 is off", at_least(0));
    v.field("top_p", top_p, "draw among the likeliest tokens that have this much probability",
            Range{.low = 0, .high = 1, .low_excluded = true});
    v.field("seed", seed, "names every random draw", at_least(0));
  }
};

struct Prompt {
  TokenIds ids;
  std::uint64_t number = 0;  // with seed and position names a draw, whatever else is in the batch
};

struct Answer {
  TokenIds ids;          // without the stop token
  bool stopped = false;  // by a stop token; otherwise by max_new_tokens or the end of the context
};

// Told each token of an answer as it comes; `row` is the prompt's place in the list.
using OnToken = std::function<void(std::size_t row, std::int32_t id)>;

// Answers all prompts at once, in lockstep: position p of every row is computed in one forward
// pass, in which a row that is still inside its prompt takes its prompt's token and any other the
// token it produced. So rows of any lengths need neither padding nor masks, and each gets the
// answer it would get alone. Memory and time go by the longest row. Throws Error for a prompt that
// is empty or leaves no room in the model's context.
std::vector<Answer> generate(models::CausalLM& model, const std::vector<Prompt>& prompts,
                             const GenerationConfig& config,
                             const std::vector<std::int32_t>& stop_ids,
                             const OnToken& on_token = {});

}  // namespace qlora::run
