#include "qlora/text/stream_decoder.h"

namespace qlora::text {

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, bool skip_special, bool continues)
    : tokenizer_(tokenizer),
      skip_special_(skip_special),
      strip_first_space_(tokenizer.strips_first_space() && !continues) {}

std::string StreamDecoder::push(std::int32_t id) {
  std::string out;
  if (skip_special_ && tokenizer_.is_special(id)) return out;
  std::string bytes = tokenizer_.token_bytes(id);
  if (at_start_ && strip_first_space_ && bytes.starts_with(' ')) bytes.erase(0, 1);
  at_start_ = false;
  repair_.push(bytes, out);
  return out;
}

std::string StreamDecoder::flush() {
  std::string out;
  repair_.flush(out);
  at_start_ = true;
  return out;
}

}  // namespace qlora::text
