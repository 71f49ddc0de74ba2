#pragma once
// Conversations as the text a model was taught to read: its chat template, a Jinja program, run by
// a small interpreter of the subset that real templates use. Renders what transformers renders
// (Jinja 3.1 with trim_blocks and lstrip_blocks, its tojson, raise_exception and strftime_now).

#include "qlora/base/json.h"
#include "qlora/text/tokenizer.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace qlora::text {

// The file beside a tokenizer that holds its chat template; an adapter may have one of its own.
inline constexpr const char* kChatTemplateFile = "chat_template.jinja";

// The most work of one render, in steps: statements, rounds of loops, items made and bytes written
// or read cost some. About a second; a real render takes some thousand steps.
inline constexpr std::size_t kMaxRenderSteps = 10'000'000;

struct RenderOptions {
  // End with what introduces the assistant's next answer.
  bool add_generation_prompt = false;
  std::string bos_token;
  std::string eos_token;
  // JSON schemas of functions that the model may call; null where there are none.
  Json tools;
  // Further variables of the template by name ("enable_thinking": false); an object or null.
  Json extra;
  // The steps that are left to several renders, each of which takes its own off; null: this one has
  // kMaxRenderSteps to itself.
  std::size_t* steps_left = nullptr;
};

// Options with the special tokens that the tokenizer names.
RenderOptions render_options(const Tokenizer& tokenizer, bool add_generation_prompt);

// Bytes that came from messages[message] and not from the template; message is -1 for tools.
struct RenderedPart {
  TextRange range;
  std::int64_t message = 0;
};

struct Rendered {
  std::string text;
  std::vector<RenderedPart> parts;  // ascending, not overlapping

  // The parts' ranges, for Tokenizer::encode: what users wrote is never a special token.
  std::vector<TextRange> plain() const;
};

// Immutable after parse; render may be called from several threads at once.
class ChatTemplate {
 public:
  // `where` names the source in errors. Throws Error "where:line: ..." for what is not understood.
  static ChatTemplate parse(const std::string& source, const std::string& where);

  // `messages`: list of {"role": ..., "content": ...}. Throws Error "where:line: ..." where the
  // template refuses the conversation, does something wrong, or runs past the limits of time,
  // depth and size.
  std::string render(const Json& messages, const RenderOptions& options) const;

  // The same, with the origin of each byte. A role is the template's own word, as it is part of
  // special tokens ("[|assistant|]"), unless it is more than letters, digits, '_' and '-'.
  Rendered render_traced(const Json& messages, const RenderOptions& options) const;

 private:
  struct Program;
  explicit ChatTemplate(std::shared_ptr<const Program> program);

  std::shared_ptr<const Program> program_;
};

// The Jinja source that a setting means: a built-in template by its name (chatml, llama-2, llama-3,
// llama-3.1, mistral, qwen, qwen-3, gemma, phi-3, exaone-3.5, exaone-4), a file, or Jinja itself.
// Throws Error "where: ..." where it is none of these.
std::string find_chat_template(const std::string& setting, std::string_view where);

// The ids of a rendered conversation: the template's special tokens are parsed, users' are not.
std::vector<std::int32_t> encode(const Tokenizer& tokenizer, const Rendered& rendered);

}  // namespace qlora::text
