#pragma once
// From words to prompts and from tokens to words.

#include "qlora/base/json.h"
#include "qlora/run/generate.h"
#include "qlora/run/session.h"
#include "qlora/text/chat_template.h"

#include <iosfwd>
#include <optional>
#include <string>
#include <string_view>

namespace qlora::run {

// A text as it stands, after BOS where the tokenizer adds one.
TokenIds encode_text(const text::Tokenizer& tokenizer, std::string_view text);

// A system message (where `system` is not empty) and one message of the user.
Json conversation(const std::string& system, const std::string& user);

// Conversations as the model was taught to read them.
class ChatPrompt {
 public:
  // By the Jinja source of a chat template, which may be empty. `tokenizer` must outlive this
  // object. Throws Error for a template that cannot be parsed.
  ChatPrompt(const text::Tokenizer& tokenizer, const std::string& chat_template);

  // messages: [{"role", "content"}, ...]. Ends with what introduces the assistant's answer. Without
  // a chat template the model gets the contents as plain text, a line each.
  TokenIds encode(const Json& messages) const;

 private:
  const text::Tokenizer& tokenizer_;
  std::optional<text::ChatTemplate> template_;
};

// The answer's text, whole characters of which go to `out` as they come. `continues`: the answer
// goes on with the prompt's own text, so a space before its first word belongs to it.
std::string stream_answer(const Session& session, const TokenIds& prompt,
                          const GenerationConfig& config, std::ostream& out,
                          bool continues = false);

// A conversation, a line of `in` a turn, until it ends or says /exit; /reset forgets what was said.
// `hints`: where the invitation to write goes.
void chat(const Session& session, const GenerationConfig& config, const std::string& system,
          std::istream& in, std::ostream& out, std::ostream& hints);

}  // namespace qlora::run
