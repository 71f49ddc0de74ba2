#pragma once
// Which bytes of a rendered conversation the model learns to say.

#include "data/formats.h"
#include "data/prompt_template.h"
#include "qlora/text/chat_template.h"
#include "qlora/text/tokenizer.h"

#include <memory>
#include <string>
#include <vector>

namespace qlora::data {

// A text and the ranges of it that are learned, ascending.
struct LabelledText {
  text::Rendered rendered;
  std::vector<text::TextRange> learned;
  bool starts_with_bos = false;  // BOS goes before the text
  bool ends_marked = true;       // a special token ends each answer
};

class Labeller {
 public:
  // `tokenizer` must outlive this object. Throws Error where its chat template is not understood.
  explicit Labeller(const text::Tokenizer& tokenizer);

  // May be called from several threads at once. Throws Error where the chat template refuses the
  // conversation or the model has none, and for examples without a text to label.
  LabelledText label(const Example& example) const;

 private:
  LabelledText label_conversation(const Conversation& conversation) const;
  LabelledText label_text(const PlainText& text) const;
  std::size_t end_of_answer(const text::Rendered& rendered, std::size_t begin, std::size_t limit,
                            bool& marked) const;

  const text::Tokenizer& tokenizer_;
  std::unique_ptr<const text::ChatTemplate> template_;  // null where the model has none
  const PromptTemplate instruction_template_;           // where the model has none
  std::vector<std::string> special_texts_;
};

}  // namespace qlora::data
