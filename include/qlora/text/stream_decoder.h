#pragma once
// Text of a growing list of tokens, a whole number of characters at a time.

#include "qlora/text/tokenizer.h"
#include "qlora/text/utf8.h"

#include <cstdint>
#include <string>

namespace qlora::text {

// The concatenation of all that push and flush return is Tokenizer::decode of all ids.
class StreamDecoder {
 public:
  // A text that continues another (a raw prompt) keeps the space that sentencepiece puts before
  // its first word. `tokenizer` must outlive this object.
  explicit StreamDecoder(const Tokenizer& tokenizer, bool skip_special = true,
                         bool continues = false);

  // The characters that `id` completes, possibly none. Bytes that cannot become a character any
  // more come out as U+FFFD.
  std::string push(std::int32_t id);
  // What is left, an unfinished character as U+FFFD. The next push starts a new text.
  std::string flush();

 private:
  const Tokenizer& tokenizer_;
  bool skip_special_;
  bool strip_first_space_;
  bool at_start_ = true;
  Utf8Repair repair_;
};

}  // namespace qlora::text
