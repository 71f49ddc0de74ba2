#pragma once
// A labelled text as tokens with labels.

#include "data/chat_labels.h"
#include "qlora/data/sample.h"

namespace qlora::data {

// The tokens of the text, those of its learned ranges labelled. A learned range starts at a token:
// what comes before it is tokenized on its own, as it is when the model is asked. Where the
// tokenizer puts a space before every text (sentencepiece), the text is tokenized as one, and a
// token across the start of a range belongs to the range.
Sample encode_sample(const text::Tokenizer& tokenizer, const LabelledText& labelled);

}  // namespace qlora::data
