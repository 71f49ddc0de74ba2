#pragma once
// Which bytes of a rendered conversation the model learns to say.

#include "data/formats.h"
#include "data/prompt_template.h"
#include "qlora/data/data_config.h"
#include "qlora/text/chat_template.h"
#include "qlora/text/tokenizer.h"

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace qlora::data {

// A text and the ranges of it that are learned, ascending.
struct LabelledText {
  text::Rendered rendered;
  std::vector<text::TextRange> learned;
  bool starts_with_bos = false;  // BOS goes before the text
  bool ends_marked = true;       // a special token ends each answer
  bool calls_written = true;     // no tool call of an answer was left out by the chat template
};

struct LabelOptions {
  std::string chat_template;  // Jinja; empty: the tokenizer's
  bool train_on_inputs = false;
  TrainOnEos train_on_eos = TrainOnEos::Turn;
  bool mask_history = false;
};

// What the settings of section `data` mean. Throws Error where the chat template is not found.
LabelOptions label_options(const DataConfig& config);

class Labeller {
 public:
  // `tokenizer` must outlive this object. Throws Error where the chat template is not understood.
  explicit Labeller(const text::Tokenizer& tokenizer, LabelOptions options = {});

  // May be called from several threads at once. Throws Error where the chat template refuses the
  // conversation or the model has none, and for examples without a text to label.
  LabelledText label(const Example& example) const;

 private:
  // What an assistant says, [begin, end), and the token that ends it, [end, mark_end): empty where
  // there is none.
  struct Answer {
    std::size_t begin = 0;
    std::size_t end = 0;
    std::size_t mark_end = 0;
  };

  // A conversation that is rendered several times, and the steps that the renders have left.
  struct Work {
    const Conversation& conversation;
    std::size_t steps_left;
  };

  LabelledText label_conversation(const Conversation& conversation) const;
  LabelledText label_text(const PlainText& text) const;
  std::optional<Answer> find_answer(Work& work, std::size_t message,
                                    const text::Rendered& whole) const;
  std::optional<text::Rendered> render_start(Work& work, std::size_t count, bool prompt) const;
  std::size_t header_end(const text::Rendered& whole, std::int64_t message,
                         const std::optional<text::Rendered>& prompt, std::size_t first) const;
  std::optional<text::TextRange> find_special(std::string_view text) const;
  std::size_t run_of_specials(std::string_view text) const;
  text::TextRange find_end_mark(std::string_view text) const;
  void add_other_ends(LabelledText& labelled) const;

  const text::Tokenizer& tokenizer_;
  const LabelOptions options_;
  std::unique_ptr<const text::ChatTemplate> template_;  // null where the model has none
  const PromptTemplate instruction_template_;           // where the model has none
  std::vector<std::string> special_texts_;
  std::string turn_end_;  // the special tokens that end a plain answer; empty where none do
};

}  // namespace qlora::data
