#include "qlora/run/generate.h"

#include "qlora/base/error.h"
#include "qlora/base/random.h"
#include "run/sampler.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/isfinite.h>

#include <algorithm>

namespace qlora::run {
namespace {

// What a row is fed after its answer has ended; nobody looks at what comes of it.
constexpr std::int32_t kIdleToken = 0;

struct Row {
  Row(const Prompt& row_prompt, std::uint64_t seed)
      : prompt(row_prompt.ids), draws(seed, fmt::format("generate.{}", row_prompt.number)) {}

  std::int64_t length() const { return static_cast<std::int64_t>(prompt.size()); }

  const TokenIds& prompt;
  RandomStream draws;
  Answer answer;
  bool finished = false;
};

class Lockstep {
 public:
  Lockstep(models::CausalLM& model, const std::vector<Prompt>& prompts,
           const GenerationConfig& config, const std::vector<std::int32_t>& stop_ids,
           const OnToken& on_token)
      : model_(model), config_(config), stop_ids_(stop_ids), on_token_(on_token) {
    for (const Prompt& prompt : prompts) {
      check(prompt.ids);
      rows_.emplace_back(prompt, static_cast<std::uint64_t>(config.seed));
    }
  }

  std::vector<Answer> run() {
    const auto shorter = [](const Row& a, const Row& b) { return a.length() < b.length(); };
    const auto [shortest, longest] = std::minmax_element(rows_.begin(), rows_.end(), shorter);
    // Written so that a huge max_new_tokens cannot overflow.
    const std::int64_t limit = model_.config().context_limit();
    const std::int64_t end =
        longest->length() + std::min(config_.max_new_tokens, limit - longest->length());
    nn::KvCache cache(model_.config().num_hidden_layers, end);
    std::int64_t position = shortest->length();
    at::Tensor logits = forward(prompt_columns(position), position, cache);
    while (true) {
      const at::Tensor column = choose(logits, position);
      if (++position == end || all_finished()) break;
      logits = forward(column, position, cache);
    }
    std::vector<Answer> answers;
    for (Row& row : rows_) answers.push_back(std::move(row.answer));
    return answers;
  }

 private:
  void check(const TokenIds& ids) const {
    const io::ModelConfig& config = model_.config();
    if (ids.empty()) fail("the prompt is empty; write something to answer");
    const std::int64_t limit = config.context_limit();
    if (std::cmp_greater_equal(ids.size(), limit)) {
      fail("the prompt has {} tokens, but the model's context ends at {}; shorten it", ids.size(),
           limit);
    }
    const auto [low, high] = std::minmax_element(ids.begin(), ids.end());
    if (*low < 0 || *high >= config.vocab_size) {
      fail(
          "the tokenizer gives the id {}, but the model knows only {} tokens: they do not belong "
          "together",
          *low < 0 ? *low : *high, config.vocab_size);
    }
  }

  bool all_finished() const {
    return std::all_of(rows_.begin(), rows_.end(), [](const Row& row) { return row.finished; });
  }

  // The first `length` tokens of every prompt, [rows, length].
  at::Tensor prompt_columns(std::int64_t length) const {
    at::Tensor ids = at::empty({static_cast<std::int64_t>(rows_.size()), length}, at::kLong);
    std::int64_t* out = ids.mutable_data_ptr<std::int64_t>();
    for (const Row& row : rows_) out = std::copy_n(row.prompt.begin(), length, out);
    return ids;
  }

  // Runs ids [rows, S] and returns the logits of `position`, which comes next: float32
  // [rows, vocabulary] on the model's device; undefined where every row still has its prompt there.
  at::Tensor forward(const at::Tensor& ids, std::int64_t position, nn::KvCache& cache) {
    const nn::ForwardContext context;
    const at::Tensor hidden =
        model_.hidden_states(ids.to(model_.device()), context, &cache).select(1, -1);
    const bool wanted = std::any_of(rows_.begin(), rows_.end(), [&](const Row& row) {
      return !row.finished && row.length() <= position;
    });
    return wanted ? model_.logits(hidden, context).to(at::kFloat) : at::Tensor();
  }

  // The token of every row at `position`, [rows, 1]; answers grow by theirs.
  at::Tensor choose(const at::Tensor& logits, std::int64_t position) {
    const TokenIds chosen = logits.defined() ? pick(logits, position) : TokenIds(rows_.size());
    at::Tensor column = at::empty({static_cast<std::int64_t>(rows_.size()), 1}, at::kLong);
    std::int64_t* out = column.mutable_data_ptr<std::int64_t>();
    for (std::size_t i = 0; i < rows_.size(); ++i) {
      Row& row = rows_[i];
      if (position < row.length()) {
        out[i] = row.prompt[static_cast<std::size_t>(position)];
      } else {
        out[i] = row.finished ? kIdleToken : chosen[i];
        if (!row.finished) extend(i, chosen[i]);
      }
    }
    return column;
  }

  void extend(std::size_t index, std::int32_t id) {
    Row& row = rows_[index];
    if (std::find(stop_ids_.begin(), stop_ids_.end(), id) != stop_ids_.end()) {
      row.answer.stopped = row.finished = true;
      return;
    }
    row.answer.ids.push_back(id);
    row.finished = std::cmp_greater_equal(row.answer.ids.size(), config_.max_new_tokens);
    if (on_token_) on_token_(index, id);
  }

  // The next token of every row whose answer goes on; anything for the others.
  TokenIds pick(const at::Tensor& logits, std::int64_t position) const {
    if (!at::isfinite(logits).all().item<bool>()) {
      fail(
          "the model computes values that are not finite; its weights are broken, or its type has "
          "too little range (try --dtype float32 or bfloat16)");
    }
    TokenIds ids(rows_.size());
    if (config_.temperature == 0) {
      const at::Tensor best = logits.argmax(-1).cpu();
      std::copy_n(best.const_data_ptr<std::int64_t>(), ids.size(), ids.begin());
      return ids;
    }
    const at::Tensor host = logits.cpu().contiguous();
    const auto vocabulary = static_cast<std::size_t>(host.size(1));
    const std::span<const float> values(host.const_data_ptr<float>(), rows_.size() * vocabulary);
    for (std::size_t i = 0; i < rows_.size(); ++i) {
      const Row& row = rows_[i];
      if (row.finished || position < row.length()) continue;
      const auto draw = static_cast<double>(row.draws.uniform(row.answer.ids.size()));
      ids[i] = sample_token(values.subspan(i * vocabulary, vocabulary), config_, draw);
    }
    return ids;
  }

  models::CausalLM& model_;
  const GenerationConfig& config_;
  const std::vector<std::int32_t>& stop_ids_;
  const OnToken& on_token_;
  std::vector<Row> rows_;
};

}  // namespace

std::vector<Answer> generate(models::CausalLM& model, const std::vector<Prompt>& prompts,
                             const GenerationConfig& config,
                             const std::vector<std::int32_t>& stop_ids, const OnToken& on_token) {
  if (prompts.empty()) return {};
  const at::NoGradGuard no_grad;
  return Lockstep(model, prompts, config, stop_ids, on_token).run();
}

}  // namespace qlora::run
